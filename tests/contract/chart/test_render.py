"""What the chart installs, on servers old and new, by Helm 3 and Helm 4."""

from typing import Any, Final

import pytest

from charts import ANCIENT, CHART, NAMESPACE, NEWEST, OLDEST, RELEASE, Json, environment, helm, of_kind, one
from contract.chart.combinations import COMBINATIONS
from keep_operator.cluster import access
from keep_operator.plugin import reach
from keep_operator.resources import crds
from keep_operator.runner import execution
from keep_operator.sandbox import tools
from keep_operator.settings import PREFIX, SECRETS, Settings

pytestmark = pytest.mark.contract

VERSIONS = (ANCIENT, "1.24.17", "1.25.0", "1.27.3", "1.28.0", OLDEST, "1.30.1", "1.31.0", "1.33.4-eks-1", NEWEST)


@pytest.mark.parametrize("package", [tools.HELM_3, tools.CURRENT], ids=["helm 3", "helm 4"])
def test_lint_has_nothing_to_say(package: tools.Package) -> None:
    """A pipeline that lints what it installs is not stopped."""
    for values in COMBINATIONS.values():
        helm(package).do("lint", "--strict", str(CHART), values=values)


@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("kubernetes", [ANCIENT, OLDEST, NEWEST])
def test_helm_3_and_4_install_the_same(name: str, kubernetes: str) -> None:
    """Whoever goes from Helm 3 to Helm 4 changes nothing in the cluster."""
    values = COMBINATIONS[name]
    old, new = (helm(package).render(values, kubernetes) for package in (tools.HELM_3, tools.CURRENT))
    assert old == new


@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_definitions_have_what_the_server_knows(kubernetes: str) -> None:
    """No server is given a field that it would refuse, and none is denied a rule that it knows."""
    rendered = {
        each["metadata"]["name"]: each for each in of_kind(helm().render({}, kubernetes), crds.build_all()[0]["kind"])
    }
    features = crds.features_of(f"v{kubernetes}")
    wanted = {crd["metadata"]["name"]: crds.without_unknown(crd, features)[0] for crd in crds.build_all()}
    assert {name: each["spec"] for name, each in rendered.items()} == {
        name: each["spec"] for name, each in wanted.items()
    }
    for each in rendered.values():
        assert each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_definitions_can_be_left_to_others() -> None:
    """Whoever applies definitions by another pipeline gets none by this one."""
    assert not of_kind(helm().render(COMBINATIONS["little"]), "CustomResourceDefinition")


def _rules(objects: list[Json], kind: str, name: str, namespace: str | None = None) -> list[Json]:
    (role,) = [each for each in of_kind(objects, kind, name) if each["metadata"].get("namespace") == namespace]
    (binding,) = [
        each for each in of_kind(objects, f"{kind}Binding", name) if each["metadata"].get("namespace") == namespace
    ]
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    accounts = [one(objects, "ServiceAccount", subject["name"]) for subject in binding["subjects"]]
    assert [account["metadata"]["namespace"] for account in accounts] == [NAMESPACE]
    rules: list[Json] = role["rules"]
    return _sorted(rules)


def _sorted(rules: list[Json]) -> list[Json]:
    return sorted(rules, key=lambda rule: (rule["apiGroups"], rule["resources"]))


def test_the_roles_are_those_that_are_used() -> None:
    """The pods may do what the code does, and nothing else."""
    objects = helm().render()
    assert _rules(objects, "ClusterRole", RELEASE) == _sorted(access.cluster_role()["rules"])
    assert _rules(objects, "Role", f"{RELEASE}-leader", NAMESPACE) == access.own_roles("any", NAMESPACE)[0]["rules"]
    assert _rules(objects, "ClusterRole", f"{RELEASE}-console") == _sorted(access.console_role()["rules"])
    assert len(of_kind(objects, "RoleBinding")) + len(of_kind(objects, "ClusterRoleBinding")) == 3


def test_the_purge_may_do_what_uninstall_asks_for() -> None:
    """The hook is not refused in the middle, and can do no more than take objects of ours away."""
    (role,) = of_kind(helm().render(COMBINATIONS["everything"]), "ClusterRole", f"{RELEASE}-purge")
    reviews = {"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews"], "verbs": ["create"]}
    assert _sorted(role["rules"]) == _sorted([*access.granted(access.UNINSTALL_RULES, set(access.Reach)), reviews])


def test_secrets_can_be_read_in_listed_namespaces_only() -> None:
    """A cluster's other Secrets are none of the operator's business where somebody says so."""
    objects = helm().render({"secretNamespaces": ["b", "a", "a"]})
    assert _rules(objects, "ClusterRole", RELEASE) == _sorted(access.cluster_role(["a"])["rules"])
    for namespace in ("a", "b"):
        wanted = access.secret_roles("any", [namespace])[0]["rules"]
        assert _rules(objects, "Role", f"{RELEASE}-secrets", namespace) == wanted


def test_rights_are_those_of_the_watched_namespaces() -> None:
    """Whoever gives the operator two namespaces gives it no Provider, ConfigMap, Secret or Event elsewhere."""
    objects = helm().render({"watchNamespaces": ["b", "a"]})
    assert _rules(objects, "ClusterRole", RELEASE) == _sorted(access.cluster_role((), ["a"])["rules"])
    assert _rules(objects, "ClusterRole", f"{RELEASE}-console") == _sorted(access.console_role(["a"])["rules"])
    wide = {
        target
        for role in of_kind(objects, "ClusterRole", RELEASE)
        for rule in role["rules"]
        for target in rule["resources"]
    }
    assert not {"secrets", "configmaps", "events", "providers", "workflows", "workflowdecisions"} & wide
    watched, _, events, _ = access.watched_roles("any", ["a"])
    for namespace in ("a", "b"):
        assert _rules(objects, "Role", f"{RELEASE}-watched", namespace) == _sorted(watched["rules"])
        assert _rules(objects, "Role", f"{RELEASE}-secrets", namespace)
        console = _rules(objects, "Role", f"{RELEASE}-console", namespace)
        assert {(rule["resources"][0], *rule["verbs"]) for rule in console} == {
            ("workflows", "get", "list"),
            ("providers", "get", "list"),
            ("workflowdecisions", "get"),
            ("workflowrevisions", "list"),
        }
    assert _rules(objects, "Role", f"{RELEASE}-events", "default") == events["rules"]


def test_every_setting_is_a_known_one() -> None:
    """What a value says reaches the process, under the name that it reads."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {f"{PREFIX}{name}_FILE" for name in SECRETS}
    known.add(f"{PREFIX}OWNER_REFERENCES")
    for values in COMBINATIONS.values():
        for each in of_kind(helm().render(values), "Deployment"):
            (container,) = each["spec"]["template"]["spec"]["containers"]
            assert {name for name in environment(container) if name.startswith(PREFIX)} <= known


def test_every_setting_can_be_set_by_a_value() -> None:
    """Nobody needs extraEnv for a setting of ours, but for what is of use on one's own machine alone."""
    objects = helm().render(
        {
            "clusterId": "a",
            "watchNamespaces": ["a"],
            "secretNamespaces": ["a"],
            "console": {"url": "https://a.example.com"},
        }
    )
    set_by_chart: set[str] = set()
    for each in of_kind(objects, "Deployment"):
        set_by_chart |= environment(each["spec"]["template"]["spec"]["containers"][0]).keys()
    wanted = {PREFIX + name.upper() for name in Settings.model_fields} - {f"{PREFIX}SIGNIN_ONCE"}
    assert {name.removesuffix("_FILE") for name in set_by_chart} >= wanted


INGRESS: Final = {"enabled": True, "host": "keep.example.com", "tlsSecretName": "tls"}


@pytest.mark.parametrize(
    ("console", "told"),
    [
        ({}, None),
        ({"ingress": INGRESS}, "https://keep.example.com"),
        ({"ingress": {**INGRESS, "host": "*.example.com"}}, None),
        ({"ingress": INGRESS, "url": "https://console.acme.org:8443"}, "https://console.acme.org:8443"),
        ({"ingress": INGRESS, "enabled": False}, None),
        ({"enabled": False, "url": "https://elsewhere.acme.org"}, "https://elsewhere.acme.org"),
    ],
)
def test_runs_lead_to_the_console_where_it_is_known(console: Json, told: str | None) -> None:
    """The host of the Ingress is the address of the pages, unless a value says another one; nothing is guessed."""
    (container,) = one(helm().render({"console": console}), "Deployment", RELEASE)["spec"]["template"]["spec"][
        "containers"
    ]
    assert environment(container).get(f"{PREFIX}CONSOLE_URL") == told


def test_the_defaults_are_those_of_the_settings() -> None:
    """An installation by the chart behaves as one by hand, unless a value says otherwise."""
    given: dict[str, str] = {}
    for each in of_kind(helm().render(), "Deployment"):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        given |= {name: value for name, value in environment(container).items() if isinstance(value, str)}
    given = {name: value for name, value in given.items() if name.startswith(PREFIX) and not name.endswith("_FILE")}
    loaded = Settings(**{name.removeprefix(PREFIX).lower(): value for name, value in given.items()})
    assert loaded == Settings()


def test_kubectl_keep_finds_the_console() -> None:
    """`kubectl keep` needs no option where the release has the name that the guide gives it."""
    service = one(helm().render(), "Service", reach.SERVICE.partition("/")[2])
    assert service["metadata"]["namespace"] == reach.SERVICE.partition("/")[0]
    (port,) = service["spec"]["ports"]
    (console,) = of_kind(helm().render(), "Deployment", service["metadata"]["name"])
    template = console["spec"]["template"]
    assert template["metadata"]["labels"].items() >= service["spec"]["selector"].items()
    ports = {each["name"]: each["containerPort"] for each in template["spec"]["containers"][0]["ports"]}
    assert (port["name"], ports[port["targetPort"]]) == ("http", Settings().console_port)


def test_the_runner_has_nothing_of_the_api_server() -> None:
    """Whoever gets hold of a pod that calls the world has no token, no right and no way to the API server."""
    objects = helm().render(COMBINATIONS["everything"])
    pod = one(objects, "Deployment", f"{RELEASE}-runner")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    account = pod["serviceAccountName"]
    assert one(objects, "ServiceAccount", account)["automountServiceAccountToken"] is False
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        assert all(account != subject["name"] for each in of_kind(objects, kind) for subject in each["subjects"])
    policies = {part: one(objects, "NetworkPolicy", f"{RELEASE}{part}")["spec"] for part in ("", "-runner")}
    api_server = [{"ipBlock": {"cidr": "10.0.0.1/32"}}, {"ipBlock": {"cidr": "fd00::1/128"}}]
    assert any(rule.get("to") == api_server for rule in policies[""]["egress"])
    (world,) = [rule["to"] for rule in policies["-runner"]["egress"] if "ports" not in rule]
    assert [each["ipBlock"]["except"] for each in world if "ipBlock" in each] == [
        ["169.254.0.0/16", "10.0.0.1/32"],
        ["fe80::/10", "fd00::1/128"],
    ]


def test_what_steps_may_call_can_be_said() -> None:
    """Who lists what workflows call gets a policy with that list, and nothing beside it but DNS and database."""
    mine = [{"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [{"protocol": "TCP", "port": 443}]}]
    objects = helm().render({"networkPolicy": {"egress": {"enabled": True, "runner": mine}}})
    dns, listed, database = one(objects, "NetworkPolicy", f"{RELEASE}-runner")["spec"]["egress"]
    assert [listed] == mine
    assert [{port["port"] for port in rule["ports"]} for rule in (dns, database)] == [{53}, {5432}]


def test_a_pod_that_ends_may_finish_its_steps() -> None:
    """A rolling upgrade loses no step that takes as long as it may by default."""
    pod = one(helm().render(), "Deployment", f"{RELEASE}-runner")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > execution.STEP_TIMEOUT_S + 10


@pytest.mark.parametrize(("kubernetes", "version"), [(ANCIENT, "v2beta2"), ("1.23.0", "v2"), (NEWEST, "v2")])
def test_the_runner_is_scaled_by_the_server_s_own_version(kubernetes: str, version: str) -> None:
    """The autoscaler decides how many there are, and no upgrade sets that back."""
    objects = helm().render({}, kubernetes)
    scaler = one(objects, "HorizontalPodAutoscaler", f"{RELEASE}-runner")
    assert scaler["apiVersion"] == f"autoscaling/{version}"
    scaled = one(objects, "Deployment", scaler["spec"]["scaleTargetRef"]["name"])
    assert "replicas" not in scaled["spec"]
    assert "cpu" in scaled["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    fixed = helm().render({"runner": {"autoscaling": {"enabled": False}, "replicas": 3}}, kubernetes)
    assert not of_kind(fixed, "HorizontalPodAutoscaler")
    assert one(fixed, "Deployment", f"{RELEASE}-runner")["spec"]["replicas"] == 3


def _pods(objects: list[Json]) -> list[Json]:
    return [each["spec"]["template"] for each in objects if each["kind"] in ("Deployment", "StatefulSet", "Job")]


@pytest.mark.parametrize("name", COMBINATIONS)
def test_no_service_gives_a_setting(name: str) -> None:
    """The variables that Kubernetes makes of a Service `keep-operator-console` would be taken for settings."""
    ours = [pod for pod in _pods(helm().render(COMBINATIONS[name])) if "serviceAccountName" in pod["spec"]]
    assert ours
    assert all(pod["spec"]["enableServiceLinks"] is False for pod in ours)


# Of https://kubernetes.io/docs/concepts/security/pod-security-standards/, what the profile `restricted` asks for.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_pods_are_let_in_where_security_is_restricted(name: str) -> None:
    """The namespace may enforce the pod security profile `restricted`."""
    for pod in _pods(helm().render(COMBINATIONS[name])):
        spec: dict[str, Any] = pod["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {kind for volume in spec.get("volumes", ()) for kind in volume if kind != "name"} <= VOLUMES
        for container in spec["containers"] + spec.get("initContainers", []):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert not context.get("privileged")
            assert not any("hostPort" in port for port in container.get("ports", ()))


def test_budgets_and_policies_are_about_the_pods() -> None:
    """A selector that selects nothing protects nothing."""
    objects = helm().render(COMBINATIONS["trial"])
    labels = [pod["metadata"]["labels"] for pod in _pods(objects)]
    found = of_kind(objects, "PodDisruptionBudget") + of_kind(objects, "NetworkPolicy")
    assert len(found) == 7
    for each in found:
        selector = each["spec"].get("selector") or each["spec"]["podSelector"]
        assert sum(label.items() >= selector["matchLabels"].items() for label in labels) == 1, each


def test_nothing_random_and_no_secret_is_rendered() -> None:
    """Rendering twice gives the same, as a GitOps tool needs it, and keys come from Secrets that exist."""
    assert not of_kind(helm().render(COMBINATIONS["everything"]), "Secret")
    once, again = (helm().do("template", RELEASE, str(CHART), values=COMBINATIONS["everything"]) for _ in range(2))
    assert once == again


def test_no_hook_but_the_purge() -> None:
    """Nothing of the chart runs beside the operator, unless somebody asks for the purge."""
    for name, values in COMBINATIONS.items():
        hooks = [each for each in helm().render(values) if "helm.sh/hook" in each["metadata"].get("annotations", {})]
        assert [each["kind"] for each in hooks] == (["Job"] if name == "everything" else [])


def test_an_upgrade_that_changes_no_pod_restarts_none() -> None:
    """Neither the chart's version nor a role restarts the pods."""
    for pod in _pods(helm().render()):
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & pod["metadata"]["labels"].keys()


def test_all_objects_are_of_the_release() -> None:
    """Whoever looks for what belongs to the release finds it by one label."""
    for values in COMBINATIONS.values():
        for each in helm().render(values):
            labels = each["metadata"]["labels"]
            assert labels["app.kubernetes.io/instance"] == RELEASE
            assert labels["app.kubernetes.io/managed-by"] == "Helm"
            assert labels.items() >= values.get("labels", {}).items()


def test_the_notes_say_what_is_still_to_be_done() -> None:
    """Whoever reads nothing else knows which Secrets are waited for, and what is unlike the guide."""
    told = helm().notes()
    assert "keep-operator-database, key url" in told
    assert "keep-operator-encryption-key, key key" in told
    assert "keep-operator-session-key, key key" in told
    assert "session" not in helm().notes({"console": {"enabled": False}})
    for other in ("FOR DEVELOPMENT ONLY", "does not have", "KEEP_OPERATOR_API_SERVICE", "for trials", "crds.install"):
        assert other not in told, "nothing is missing here"
    assert "@keep-operator-postgresql:5432/keep_operator" in helm().notes(COMBINATIONS["trial"])
    assert "export KEEP_OPERATOR_API_SERVICE=keep-operator/mine-keep-operator-console" in helm().notes(release="mine")
    assert "keep-operator crds apply" in helm().notes(COMBINATIONS["little"])
    assert "runner.enabled is false" in helm().notes(COMBINATIONS["little"])
