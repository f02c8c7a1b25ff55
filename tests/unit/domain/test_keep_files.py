"""Keep's files become manifests and manifests Keep's files; nothing is lost, and no credential gets where it does not belong."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keep_operator.domain import catalogue, keep_files
from keep_operator.domain.grammar import dialect, workflow
from keep_operator.resources import provider as provider_reader
from keep_operator.resources.shapes import Invalid
from unit.domain.grammar import corpus

pytestmark = pytest.mark.unit

CANARY = "canary-that-nobody-may-see"


def read(content: object, name: str = "file.yaml", **where: str) -> keep_files.Import:
    """The import of one file."""
    return keep_files.read({name: dialect.dump(content)}, **where)


def back(imported: keep_files.Import) -> list[Any]:
    """The documents that an export makes of an import, through the text that kubectl would read."""
    applied = dialect.load_all(keep_files.to_yaml(imported.manifests)) if imported.manifests else ()
    exported = keep_files.write([document.value for document in applied])
    assert exported.faults == ()
    return [dialect.load(text).value for text in exported.files.values()]


@pytest.mark.parametrize("path", corpus.ALL, ids=lambda path: path.name)
def test_real_workflows_come_back_as_they_were(path: Path) -> None:
    """A team can move its workflows here, and away again."""
    imported = keep_files.read({path.name: corpus.text(path)})
    assert imported.faults == ()
    (manifest,) = imported.manifests
    definition, _, _ = workflow.unwrap(dialect.load(corpus.text(path)).value)
    assert manifest["spec"]["definition"] == definition
    assert back(imported) == [{"workflow": definition}]


@pytest.mark.shared_data("Keep's example workflows stand beside the project")
@corpus.needs_keep
def test_all_real_workflows_at_once_have_names_of_their_own() -> None:
    """A whole directory is imported in one go."""
    imported = keep_files.read({path.name: corpus.text(path) for path in corpus.KEEP})
    assert len({manifest["metadata"]["name"] for manifest in imported.manifests}) == len(corpus.KEEP)
    assert len(keep_files.write(imported.manifests).files) == len(corpus.KEEP)


def test_a_workflow_is_named_by_its_id() -> None:
    """The object is found under the name that people know."""
    inner = corpus.definition(id="High CPU (prod)", name="x")
    assert [each["metadata"] for each in read(inner).manifests] == [{"name": "high-cpu-prod"}]
    unnamed = read(corpus.definition(), "workflows/My_File.v2.yaml")
    assert unnamed.manifests[0]["metadata"] == {"name": "my-file"}
    placed = read(inner, namespace="monitoring", tenant="platform").manifests[0]
    assert placed["metadata"] == {"name": "high-cpu-prod", "namespace": "monitoring"}
    assert placed["spec"]["tenantRef"] == {"name": "platform"}


def test_names_that_become_alike_stay_apart() -> None:
    """Two workflows whose names differ in what Kubernetes does not allow are two objects, each time the same ones."""
    files = {
        f"{number}.yaml": dialect.dump(corpus.definition(id=name)) for number, name in enumerate(["A b", "a-b", "a_b"])
    }
    names = [manifest["metadata"]["name"] for manifest in keep_files.read(files).manifests]
    assert names[0] == "a-b"
    assert len(set(names)) == 3
    assert names == [manifest["metadata"]["name"] for manifest in keep_files.read(files).manifests]
    assert keep_files.object_name("日本") == keep_files.object_name("日本") != keep_files.object_name("中国")


def test_a_file_with_faults_is_made_and_told() -> None:
    """Whoever imports a hundred files sees what is wrong with three of them, by file and line."""
    imported = keep_files.read(
        {"good.yaml": dialect.dump(corpus.definition(id="a")), "bad.yaml": "steps: [1]\n", "c.yaml": "a: ["}
    )
    assert [str(finding) for finding in imported.faults] == [
        "bad.yaml: line 1: steps[0]: must be an object with name and provider",
        "c.yaml: line 2: is not YAML: did not find expected node content while parsing a flow node",
    ]
    assert [manifest["metadata"]["name"] for manifest in imported.manifests] == ["a", "bad"]
    assert "has neither steps nor actions" in str(keep_files.read({"empty.yaml": "{}"}).faults[0])


def test_a_provider_file_becomes_a_provider_and_its_secret() -> None:
    """Settings stay readable, credentials go where credentials belong."""
    imported = read(
        {
            "name": "VM_prod",
            "type": "victoriametrics",
            "authentication": {
                "VMBackendURL": "http://vm",
                "BasicAuthPassword": CANARY,
                "BasicAuthUsername": "{{ env.VM_USER }}",
            },
        }
    )
    assert (imported.faults, imported.warnings) == ((), ())
    secret, provider = imported.manifests
    assert secret == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "vm-prod-credentials"},
        "stringData": {"BasicAuthPassword": CANARY},
    }
    assert provider == {
        "apiVersion": "keep-operator.dev/v1alpha1",
        "kind": "Provider",
        "metadata": {"name": "vm-prod"},
        "spec": {
            "type": "victoriametrics",
            "externalName": "VM_prod",
            "config": {"VMBackendURL": "http://vm", "BasicAuthUsername": "{{ env.VM_USER }}"},
            "secrets": [
                {
                    "key": "BasicAuthPassword",
                    "valueFrom": {"secretKeyRef": {"name": "vm-prod-credentials", "key": "BasicAuthPassword"}},
                }
            ],
        },
    }
    spec = provider_reader.parse_spec(provider["spec"])
    assert not isinstance(spec, Invalid)
    assert CANARY not in repr(imported)


def test_a_map_of_providers_becomes_all_of_them() -> None:
    """The value of KEEP_PROVIDERS, and Keep's providers.yaml, are files of providers."""
    content = {
        "slack-prod": {"type": "slack", "authentication": {"webhook_url": CANARY}},
        "tell": {"type": "console", "authentication": {}},
    }
    imported = keep_files.read({"providers.json": json.dumps(content)})
    assert imported.faults == ()
    assert [(each["kind"], each["metadata"]["name"]) for each in imported.manifests] == [
        ("Secret", "slack-prod-credentials"),
        ("Provider", "slack-prod"),
        ("Provider", "tell"),
    ]
    assert back(imported) == [{"name": name, **each} for name, each in content.items()]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"name": "a", "authentication": {}}, ["file.yaml: line 1: type: is required: such as slack"]),
        ({"type": "slack"}, ["file.yaml: line 1: name: is required: workflows name the provider by it"]),
        ({"name": "a", "type": "slack", "authentication": [1]}, ["file.yaml: line 3: authentication: must be an object"]),
        ({"x": {"type": "slak"}}, ["file.yaml: line 1: x: spec.type: is no provider type of Keep; did you mean slack?"]),
        (
            {"name": "a.b", "type": "console", "authentication": {}},
            ["file.yaml: line 1: spec.externalName: must match " + provider_reader.EXTERNAL_NAME],
        ),
        (
            {"name": "vm", "type": "victoriametrics", "authentication": {"VMBackendUrl": CANARY}},
            ['file.yaml: line 1: spec.secrets[0].key: is not a field of type "victoriametrics". Did you mean VMBackendURL?'],
        ),
        (
            {"name": "p", "type": "jira", "authentication": {"email": "a@b", "api_token": None, "host": "h"}},
            ["file.yaml: line 1: spec.secrets: needs an entry with the key api_token, which is required"],
        ),
    ],
)  # fmt: skip
def test_providers_that_would_be_refused_are_told(content: Any, told: list[str]) -> None:
    """What the operator would say after the apply is said before it, without a value."""
    imported = read(content)
    assert [str(finding) for finding in imported.faults] == told
    assert CANARY not in str(imported.faults)


def test_what_a_provider_has_no_field_for_is_kept() -> None:
    """Webhooks, deduplication rules and whatever else stands in the file come back on export."""
    content = {
        "name": "a",
        "type": "datadog",
        "authentication": {"api_key": "x", "app_key": "$(APP_KEY)"},
        "install_webhook": True,
        "deduplication_rules": {"r": {"fingerprint_fields": ["a"]}},
    }
    imported = read(content)
    assert imported.faults == ()
    assert [str(finding) for finding in imported.warnings] == [
        "file.yaml: line 6: install_webhook: has no effect here; it is kept in annotation keep-operator.dev/keep-file",
        "file.yaml: line 7: deduplication_rules: has no effect here; it is kept in annotation keep-operator.dev/keep-file",
        "file.yaml: line 5: authentication.app_key: is filled in by Keep's own provisioning only; put the value there",
    ]
    assert back(imported) == [content]


KINDS = [kind for name in catalogue.names() if (kind := catalogue.find(name)) is not None]
FIELDS = st.sampled_from(sorted({name for kind in KINDS for name in kind.fields})) | st.sampled_from(
    ["odd field", "x" * 300]
)
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | PLAIN | st.sampled_from(["{{ env.X }}", "$(X)", "010", "yes", "null"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(PLAIN, below, max_size=3),
    max_leaves=6,
)  # fmt: skip
PROVIDER_FILES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_]{0,61}[A-Za-z0-9])?", fullmatch=True),
        "type": st.sampled_from([*catalogue.names(), "unknown"]),
        "authentication": st.dictionaries(FIELDS, VALUES, max_size=5),
    },
    optional={"install_webhook": st.booleans(), "deduplication_rules": VALUES, "credentialsAsJson": VALUES},
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PROVIDER_FILES, max_size=3, unique_by=lambda each: str(each["name"])))
def test_whatever_stands_in_a_provider_file_comes_back(contents: list[dict[str, Any]]) -> None:
    """No setting, no credential, no type of a value is lost, for known and unknown types and fields."""
    files = {f"{number}.yaml": dialect.dump(content) for number, content in enumerate(contents)}
    returned = {each["name"]: each for each in back(keep_files.read(files))}
    assert returned == {content["name"]: content for content in contents}


def test_credentials_stand_in_secrets_only() -> None:
    """For each type, no credential gets into a Provider, which many may read."""
    for kind in KINDS:
        secret_fields = [field.name for field in kind.fields.values() if catalogue.is_credential(kind, field)]
        content = {
            "name": "a",
            "type": kind.name,
            "authentication": dict.fromkeys([*secret_fields, "unheard_of"], CANARY),
        }
        imported = read(content)
        for manifest in imported.manifests:
            assert manifest["kind"] == "Secret" or CANARY not in json.dumps(manifest)
        assert CANARY not in repr(imported)


def a_provider(**changes: Any) -> dict[str, Any]:
    """A Provider as the API server gives it."""
    reference = {"secretKeyRef": {"name": "s", "key": "k"}}
    spec = {"type": "slack", "secrets": [{"key": "webhook_url", "valueFrom": reference}]}
    metadata = {"name": "a", "namespace": "n", **changes}
    return {"apiVersion": "keep-operator.dev/v1alpha1", "kind": "Provider", "metadata": metadata, "spec": spec}


def a_secret(value: str = CANARY, namespace: str = "n") -> dict[str, Any]:
    """A Secret as the API server gives it."""
    data = {"k": base64.b64encode(value.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": namespace}, "data": data}


def test_objects_of_a_cluster_are_exported() -> None:
    """What `kubectl get -o json` gives is enough, with the Secrets."""
    exported = keep_files.write([a_provider(), a_secret(), {"kind": "Pod", "metadata": {"name": "p"}}])
    assert exported.faults == ()
    assert {name: dialect.load(text).value for name, text in exported.files.items()} == {
        "providers/a.yaml": {"name": "a", "type": "slack", "authentication": {"webhook_url": CANARY}}
    }
    assert CANARY not in repr(exported)


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        ([a_provider()], "Provider n/a: spec.secrets[0]: Secret s with key k is not among the given objects"),
        (
            [a_provider(), a_secret(namespace="other")],
            "Provider n/a: spec.secrets[0]: Secret s with key k is not among the given objects",
        ),
        (
            [a_provider(annotations={keep_files.EXTRAS: "[]"}), a_secret()],
            "Provider n/a: metadata.annotations: keep-operator.dev/keep-file is not as an import writes it; remove it",
        ),
        (
            [a_provider(annotations={keep_files.EXTRAS: '{"credentialsAsJson": ["webhook_url"]}'}), a_secret()],
            "Provider n/a: spec.secrets[0]: Secret s does not hold JSON in key k any more",
        ),
    ],
)
def test_what_cannot_be_exported_is_told(objects: list[Any], told: str) -> None:
    """Half a provider is not exported in silence, and no message shows a credential."""
    exported = keep_files.write(objects)
    assert [str(finding) for finding in exported.faults] == [told]
    assert exported.files == {}


def test_a_workflow_from_a_config_map_is_exported_with_its_text() -> None:
    """Where the definition lives makes no difference to the file."""
    inner = corpus.definition(id="a")
    reference = {"configMapKeyRef": {"name": "c", "key": "a.yaml"}}
    made = {
        "apiVersion": "keep-operator.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "a"},
        "spec": {"definitionFrom": reference},
    }
    config_map = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a.yaml": dialect.dump({"workflow": inner})}}
    exported = keep_files.write([made, config_map])
    assert dialect.load(exported.files["workflows/a.yaml"]).value == {"workflow": inner}
    assert "ConfigMap c with key a.yaml is not among" in str(keep_files.write([made]).faults[0])
    broken = {**config_map, "data": {"a.yaml": "a: ["}}
    assert "ConfigMap c: line 2: is not YAML" in str(keep_files.write([made, broken]).faults[0])
