"""A node of one's own: runs the pods that the cluster makes, each as a process of this machine, as a kubelet would.

::

    Deployment ─controllers of the sandbox─► Pod ──► bound to the node ──► spec.py: environment, files ──► container.py
                                              ▲                                                              │
                                              └────────── phase, Ready, restarts ◄── probes, exit codes ◄────┘

What is not as on a real node: no limits of memory and CPU, no network policies, one container to a pod, no `kubectl exec`
and `port-forward` (`run_beside` and `port` stand in for them), and the image is the project as it is.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import click
import yaml
from urllib3.exceptions import HTTPError

from charts import ROOT
from e2e.cluster import Kube
from e2e.node.probe import Probe
from e2e.node.running import Container, Running
from e2e.node.spec import Image, Pod, Unresolved, image_of
from manifests import Json

NAME: Final = "here"
# Between two looks at the API server, in seconds; a kubelet is told by a watch.
POLL_S: Final = 0.25
# Between two attempts at a pod whose parts are not all there, and the longest pause before a restart, in seconds.
RETRY_S, LONGEST_PAUSE_S = 1.0, 300.0
# How long a rollout may take on a busy machine, and a command that is run beside a container, in seconds.
ROLLOUT_S: Final = 110
PATIENCE_S: Final = 120
# What of the machine is seen in a container, besides the project.
SHOWN: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev")
OURS: Final = "keep-operator"
Address = tuple[str, int]


class Node:
    """Runs every pod of the cluster whose image it has, from the start of the block to its end.

    Besides the API server, the pods reach what is at `reachable`.
    """

    def __init__(self, kube: Kube, folder: Path, reachable: Sequence[Address] = ()) -> None:
        self.kube = kube
        self.pods: dict[str, Running] = {}
        self._folder = folder
        self._image = image_of((ROOT / "Dockerfile").read_text(encoding="utf-8"))
        cluster = yaml.safe_load(kube.kubeconfig.read_text(encoding="utf-8"))["clusters"][0]["cluster"]
        self._authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        server = urlsplit(cluster["server"])
        _, service = kube.send("GET", "/api/v1/namespaces/default/services/kubernetes")
        address = service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"]
        self._outward = [_way(address, (str(server.hostname), int(server.port or 443)))]
        self._outward += [_way(each, each) for each in reachable]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="node", daemon=True)
        self.failures: list[BaseException] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for running in self.pods.values():
            running.ended.set()
        for running in self.pods.values():
            if running.thread is not None:
                running.thread.join()
            self.kube.send("DELETE", f"{_path(running.pod.raw)}?gracePeriodSeconds=0")
        if kind is None and self.failures:
            raise self.failures[0]

    # -- for tests --------------------------------------------------------------------------------------------------

    def of(self, deployment: str) -> list[Running]:
        """The pods of a Deployment that run here, and are not told to end; the oldest one first."""
        replica_sets = f"{deployment}-"
        return [
            running
            for running in list(self.pods.values())
            if running.container is not None
            and running.pod.name.startswith(replica_sets)
            and running.pod.name.removeprefix(replica_sets).count("-") == 1
            and not running.ended.is_set()
        ]

    def await_rollout(self, namespace: str, *deployments: str) -> None:
        """Returns when the pods of Deployments are as wanted, all of them, and ready; a failure tells what they wait for."""
        for name in deployments:
            wait = (f"deployment/{name}", f"--namespace={namespace}", f"--timeout={ROLLOUT_S}s")
            told = self.kube.kubectl("rollout", "status", *wait, check=False)
            if "successfully rolled out" not in told:
                pods = self.kube.send("GET", f"/api/v1/namespaces/{namespace}/pods")[1]["items"]
                raise AssertionError(f"{told}; the pods: {[pod.get('status', {}) for pod in pods]}")

    def run_beside(self, running: Running, *command: str) -> tuple[int, str]:
        """Exit code and output of a command with the environment, files and rights of a pod's container, as by `kubectl exec`."""
        assert running.container is not None, f"{running.pod.name} does not run"
        folder = running.folder / "exec"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        given = {**running.container.given, "command": list(command), "inward": [], "root": str(folder)}
        done = subprocess.run(
            _program(), input=json.dumps(given).encode(), capture_output=True, timeout=PATIENCE_S, check=False
        )
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    # -- what a kubelet does ----------------------------------------------------------------------------------------

    def _look_on(self) -> None:
        try:
            while not self._ended.wait(POLL_S):
                status, answer = self._send("GET", "/api/v1/pods")
                if status != 200:
                    continue
                there = {each["metadata"]["uid"]: each for each in answer["items"]}
                for uid, raw in there.items():
                    if uid in self.pods:
                        if raw["metadata"].get("deletionTimestamp"):
                            self.pods[uid].ended.set()
                    elif not raw["spec"].get("nodeName") and self._has_image(raw):
                        self._take(raw)
                for uid in self.pods.keys() - there.keys():
                    self.pods[uid].ended.set()
        except BaseException as error:
            self.failures.append(error)
            raise

    def _has_image(self, raw: Json) -> bool:
        names = [
            each["image"].partition("@")[0].rpartition("/")[2].partition(":")[0] for each in raw["spec"]["containers"]
        ]
        return set(names) == {OURS}

    def _take(self, raw: Json) -> None:
        binding = {"metadata": {"name": raw["metadata"]["name"]}, "target": {"kind": "Node", "name": NAME}}
        status, _ = self._send("POST", f"{_path(raw)}/binding", binding)
        if status != 201:
            return  # gone meanwhile
        raw["spec"]["nodeName"] = NAME
        folder = self._folder / raw["metadata"]["name"]
        folder.mkdir(parents=True)
        running = Running(Pod(raw, self._read, lambda wanted: self._token(raw, wanted)), folder)
        running.thread = threading.Thread(target=self._live, args=(running,), name=raw["metadata"]["name"], daemon=True)
        self.pods[raw["metadata"]["uid"]] = running
        running.thread.start()

    def _live(self, running: Running) -> None:
        try:
            self._serve(running)
        except BaseException as error:
            self.failures.append(error)
            raise

    def _serve(self, running: Running) -> None:
        pause_s = 0.0
        while not running.ended.wait(pause_s):
            try:
                self._start(running)
            except Unresolved as error:
                self._tell(running, "Pending", {"waiting": {"reason": error.reason, "message": str(error)}})
                pause_s = RETRY_S
                continue
            code = self._attend(running)
            if running.ended.is_set():
                break
            policy = running.pod.raw["spec"].get("restartPolicy", "Always")
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
                self._tell(running, "Failed" if code else "Succeeded", state)
                running.ended.wait()
                break
            pause_s = min(10.0 * 2 ** (running.restarts - 1), LONGEST_PAUSE_S) if running.restarts else 0.0
            running.restarts += 1
            waiting = {"reason": "CrashLoopBackOff", "message": f"it ended with {code}: {running.log[-2000:]}"}
            self._tell(running, "Running", {"waiting": waiting})
        self._end(running)

    def _start(self, running: Running) -> None:
        pod, image = running.pod, self._image
        user, group = pod.user(image)
        volumes = running.folder / f"volumes-{running.restarts}"
        shutil.rmtree(volumes, ignore_errors=True)
        environment = pod.environment(image)
        root = running.folder / f"root-{running.restarts}"
        root.mkdir(exist_ok=True)
        security = pod.container.get("securityContext") or {}
        given = {
            "host_name": pod.name,
            "user": user,
            "group": group,
            "read_only": bool(security.get("readOnlyRootFilesystem")),
            "root": str(root),
            "shown": [path for path in (*SHOWN, *_project()) if os.path.exists(path)],
            "mounts": [*pod.mounts(volumes, user, group), *_installed(image)],
            "outward": self._outward,
            "command": pod.command(image, environment),
            "environment": environment,
        }
        ports = [each["containerPort"] for each in pod.container.get("ports", ())]
        listening = {port: socket.create_server(("127.0.0.1", 0)) for port in ports}
        given["inward"] = [{"file": each.fileno(), "port": port} for port, each in listening.items()]
        log = running.folder / f"{running.restarts}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                _program(),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[each.fileno() for each in listening.values()],
                start_new_session=True,
            )
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(json.dumps(given).encode())
        leading = {port: each.getsockname()[1] for port, each in listening.items()}
        for each in listening.values():
            each.close()
        running.container = Container(given, process, leading, log)

    def _attend(self, running: Running) -> int:
        """Ask the probes until the container ends, is found dead, or is to end; its exit code."""
        container = running.container
        assert container is not None
        spec = running.pod.container
        startup, liveness, readiness = (
            Probe(spec[name], spec) if name in spec else None
            for name in ("startupProbe", "livenessProbe", "readinessProbe")
        )
        ready: bool | None = None
        while (code := container.process.poll()) is None and not running.ended.wait(POLL_S):
            if startup is not None and startup.passed is not True:
                startup.ask(container.ports)
                now = False
            else:
                for probe in filter(None, (liveness, readiness)):
                    probe.ask(container.ports)
                now = readiness is None or readiness.passed is True
            if now != ready:
                ready = now
                self._tell(running, "Running", {"running": {}}, ready=ready)
            if any(probe is not None and probe.passed is False for probe in (startup, liveness)):
                return self._stop(running)
        return self._stop(running) if code is None else code

    def _stop(self, running: Running) -> int:
        """Tell it to end, and end it after the time of grace."""
        container = running.container
        assert container is not None
        if container.process.poll() is None:
            container.process.send_signal(signal.SIGTERM)
            try:
                container.process.wait(running.pod.raw["spec"].get("terminationGracePeriodSeconds", 30))
            except subprocess.TimeoutExpired:
                container.process.kill()
        return container.process.wait()

    def _end(self, running: Running) -> None:
        if running.container is not None:
            self._stop(running)
        self._send("DELETE", f"{_path(running.pod.raw)}?gracePeriodSeconds=0")

    def _tell(self, running: Running, phase: str, state: Json, *, ready: bool = False) -> None:
        (container,) = running.pod.raw["spec"]["containers"]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        conditions = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
        status = {
            "phase": phase,
            "startTime": now,
            "podIP": "127.0.0.1",
            "conditions": [
                {"type": kind, "status": str(holds), "lastTransitionTime": now} for kind, holds in conditions.items()
            ],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": container["image"],
                    "ready": ready,
                    "restartCount": running.restarts,
                    "state": state,
                }
            ],
        }
        path = f"{_path(running.pod.raw)}/status"
        code, answer = self._answered(lambda: self.kube.patch(path, {"status": status}))
        assert code in (200, 404), answer

    def _read(self, path: str) -> Json | None:
        if path.endswith("/configmaps/kube-root-ca.crt"):
            return {"data": {"ca.crt": self._authority}}
        status, answer = self._send("GET", path)
        assert status in (200, 404), answer
        return answer if status == 200 else None

    def _token(self, raw: Json, wanted: Json) -> str:
        """A token that ends with its pod, as every kubelet asks for one."""
        metadata, account = raw["metadata"], raw["spec"].get("serviceAccountName") or "default"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"boundObjectRef": bound, "expirationSeconds": wanted.get("expirationSeconds", 3600)}
        if "audience" in wanted:
            spec["audiences"] = [wanted["audience"]]
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        status, answer = self._send("POST", path, {"spec": spec})
        assert status == 201, answer
        return str(answer["status"]["token"])

    def _send(self, method: str, path: str, body: object = None) -> tuple[int, Json]:
        return self._answered(lambda: self.kube.send(method, path, body))

    def _answered(self, ask: Callable[[], tuple[int, Json]]) -> tuple[int, Json]:
        """The answer of the API server, as soon as there is one; a node outlives its absence."""
        while True:
            try:
                return ask()
            except (click.ClickException, HTTPError):
                if self._ended.wait(POLL_S):
                    raise


def _program() -> list[str]:
    return [sys.executable, "-I", str(Path(__file__).with_name("container.py"))]


def _project() -> list[str]:
    """Where the program is, and the interpreter that it runs with."""
    return [sys.prefix, str(Path(sys.executable).resolve().parent.parent), str(ROOT / "operator")]


def _installed(image: Image) -> list[dict[str, Any]]:
    """The project where the image has it: at the head of its PATH."""
    folder = image.environment["PATH"].partition(":")[0]
    return [{"source": str(Path(sys.prefix, "bin")), "target": folder, "read_only": True}]


def _way(at: Address, to: Address) -> dict[str, Any]:
    return {"address": at[0], "port": at[1], "to": list(to)}


def _path(raw: Json) -> str:
    return f"/api/v1/namespaces/{raw['metadata']['namespace']}/pods/{raw['metadata']['name']}"
