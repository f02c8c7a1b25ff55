"""Watches that are told nothing, told that history is gone, or told off: what happened meanwhile is found all the same."""

import signal
from pathlib import Path

import pytest

from e2e import etcd
from e2e.between import gateway, line
from e2e.cluster import SOAK, Database, Json, Kube, eventually, provider
from e2e.conftest import Operate
from keep_operator.resources.kinds import PROVIDERS
from keep_operator.sandbox.instance import Sandbox

pytestmark = pytest.mark.e2e


def force_away(kube: Kube, manifest: Json) -> None:
    """Delete an object without asking anybody."""
    name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace")
    kube.delete(manifest)
    kube.patch(PROVIDERS.path(namespace, name), {"metadata": {"finalizers": None}})
    kube.await_gone(manifest)


def test_deletions_in_a_forgotten_history_are_found(
    operate: Operate, kube: Kube, namespace: str, database: Database, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The watch breaks, objects are deleted by force, etcd is compacted and the server knows no more of it (410).

    The operator lists anew and misses them: whoever waited for a name gets it, with the id, and nobody else is touched.
    """
    with line(sandbox.kubeconfig("operator"), tmp_path) as to_server:
        operator = operate(KEEP_OPERATOR_LEASE_SECONDS="60", KUBECONFIG=str(to_server.kubeconfig))
        holder, heir = (provider(name, namespace, externalName="victoria") for name in ("holder", "heir"))
        kept, waiting = provider("kept", namespace), provider("waiting", namespace, "nobody")
        kube.create(holder, kept, waiting)
        before, untouched = kube.await_ready(holder, kept)
        kube.create(heir)
        kube.await_condition(heir, "Synced", ("Unknown", "ExternalNameConflict"))
        kube.await_condition(waiting, "Ready", ("Unknown", "TenantNotFound"))

        to_server.cut()
        force_away(kube, holder)
        force_away(kube, waiting)
        etcd.compact(sandbox)
        sandbox.control_plane().restart_api_server(with_signal=signal.SIGKILL)
        to_server.mend()
        (after,) = kube.await_ready(heir)
        assert after.status["providerId"] == before.status["providerId"]
        found = {line["object"] for line in operator.told("an object is gone, and no watch had told so")}
        assert found == {f"{namespace}/holder", f"{namespace}/waiting"}
        eventually(lambda: operator.metrics("keep_operator_objects")['kind="Provider"'], lambda count: count == 2)
        assert kube.get(kept).version == untouched.version
        assert {row["owner_name"]: str(row["id"]) for row in database.providers()} == {
            "heir": before.status["providerId"],
            "kept": untouched.status["providerId"],
        }
        assert operator.process.poll() is None


def test_another_error_in_a_watch_ends_the_process_and_a_restart_mends_it(
    operate: Operate, kube: Kube, namespace: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The server says in the middle of a watch that it is broken: the process ends with that, and the next one works."""
    error = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "InternalError", "code": 500}
    with gateway(sandbox.kubeconfig("operator"), tmp_path) as (server, kubeconfig):
        operator = operate(flawed=True, KUBECONFIG=str(kubeconfig))
        kube.create(provider("vm", namespace))
        kube.await_ready(provider("vm", namespace))
        assert server.do(lambda gateway: gateway.say(PROVIDERS, {"type": "ERROR", "object": error})) == 1
        assert operator.process.wait(30) == 1
        assert "WatchFailed" in operator.log
    operate()
    kube.create(provider("late", namespace))
    kube.await_ready(provider("late", namespace))


@pytest.mark.slow
def test_a_watch_that_nobody_answers_fails_liveness_after_a_while_and_not_before(
    operate: Operate, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A gateway keeps the watch of Providers waiting and serves the rest: that process says so, the other one is well."""
    limit = {"KEEP_OPERATOR_WATCH_SILENCE_LIMIT": "150s"}
    with gateway(sandbox.kubeconfig("operator"), tmp_path) as (server, kubeconfig):
        deaf = operate(flawed=True, KUBECONFIG=str(kubeconfig), **limit)
        well = operate(**limit)
        server.do(lambda gateway: gateway.ignore(PROVIDERS))
        assert deaf.page("/healthz") == (200, "ok")
        if SOAK:
            eventually(lambda: deaf.page("/healthz"), lambda page: page[0] == 503, "503", patience_s=300)
            assert "the watch of providers has been silent" in deaf.page("/healthz")[1]
        assert well.page("/healthz") == (200, "ok")
