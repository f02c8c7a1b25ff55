"""One sandbox: everything that runs, and everything it keeps, in one folder.

::

    .sandbox/
      state.json                  what kind of cluster it is and of which version
      processes.json              what was started, so that any later command finds it
      admin|operator|console|developer.kubeconfig
      encryption.key              made once; what is encrypted with it lives as long as the database
      cluster/  postgres/  logs/
      lock                        one start or stop at a time
      attended.lock               one foreground run at a time

    start ──► tools ──► builder (once) ──┬─► PostgreSQL              both at once
                                         └─► etcd ► API server ► controllers
"""

import base64
import concurrent.futures
import contextlib
import os
import secrets
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal, assert_never

from keep_operator.errors import Refused
from keep_operator.sandbox import builder, cache, guardian, kind, kubeconfig, postgres, source, status, tools
from keep_operator.sandbox.control_plane import ORDER, ControlPlane
from keep_operator.sandbox.display import Display, Step
from keep_operator.sandbox.options import Options
from keep_operator.sandbox.processes import Roster
from keep_operator.sandbox.state import State
from keep_operator.sandbox.state import read as read_state
from keep_operator.sandbox.status import Component

USUAL_DATABASE: Final = timedelta(seconds=1)
USUAL_CLUSTER: Final = timedelta(seconds=5)
KEY_BYTES: Final = 32  # a 256-bit key


class _Interrupted(Exception):
    pass


class Sandbox:
    """The sandbox in one folder. Every method may be called from any process; a lock keeps starts and stops apart."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.folder = options.folder
        self.logs = self.folder / "logs"
        self.roster = Roster(self.folder / "processes.json")
        self.database = postgres.Server(self.folder / "postgres", self.roster, log=self.logs / "postgres.log")

    # -- verbs ----------------------------------------------------------------------------------------------------

    def start(self, display: Display) -> None:
        """Starts what does not run, building and fetching what is missing; what died is started again. Safe to repeat.

        When it fails or is interrupted, what this call has started is stopped again. Raises Refused or Unavailable,
        with the remedy.
        """
        self._make_folder()
        guardian.wait_for_leftover(self.folder)
        with self._locked(display):
            before = {process.name for process in self.roster.all() if process.alive}
            try:
                self._start(display)
            except BaseException:
                for process in sorted(self.roster.all(), key=lambda process: process.rank, reverse=True):
                    if process.name not in before:
                        self.roster.stop(process.name)
                raise

    def prepare(self, display: Display) -> None:
        """Fetches and builds what a start would, and starts nothing. Safe to repeat."""
        tools.ensure(display)
        if isinstance(source.choose(self.options.cluster, self.options.assets), source.Built):
            builder.ensure(display)

    def stop(self, display: Display) -> None:
        """Stops everything and keeps all data. Safe to repeat."""
        if not self.folder.is_dir():
            return
        with self._locked(display):
            self._stop(display)

    def reset(self, display: Display) -> None:
        """Stops everything and removes all data, the cluster's and the embedded database's. Safe to repeat.

        A database that was given by its URL is not touched, and the key that it may be encrypted with is kept.
        """
        if not self.folder.is_dir():
            return
        with self._locked(display):
            self._stop(display)
            state = self._state()
            if state is not None and state.cluster == "kind":
                self._kind().wipe()
            for name in ("cluster", "logs", "postgres"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            gone = [kubeconfig.path(self.folder, name) for name in kubeconfig.USERS]
            gone += [self._url_file, self.roster.path, self._state_file]
            if state is None or state.database == "embedded":
                gone.append(self.key_file)
            for file in gone:
                file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def attended(self, display: Display) -> Iterator[None]:
        """The sandbox for the length of the block: started before, stopped after, with all that the roster holds.

        Processes that the caller starts through ``roster`` (with a rank of 10 or more, to be stopped first) are
        stopped with it. It ends with this process in any case, kill -9 included (a guardian sees to it; kind's
        container alone would stay). Raises Refused when another process attends to the folder already.
        """
        self._make_folder()
        with guardian.posted(self.folder, self.roster, log=self.logs / "guardian.log"):
            try:
                self.start(display)
                yield
            finally:
                self.stop(display)

    # -- what it offers -------------------------------------------------------------------------------------------

    @property
    def key_file(self) -> Path:
        """The encryption key of this sandbox (0600)."""
        return self.folder / "encryption.key"

    def kubeconfig(self, name: str = "admin") -> Path:
        """The kubeconfig of ``admin``, ``operator``, ``console`` or ``developer``."""
        return kubeconfig.path(self.folder, name)

    def database_url(self) -> str:
        """The URL of the control database, password included."""
        if self._required_state().database == "given":
            return self._url_file.read_text().strip()
        return self.database.url()

    def control_plane(self) -> ControlPlane:
        """The control plane of this sandbox, for what only tests do to it. Raises Refused where it has none."""
        programs = self._required_state().programs
        if programs is None:
            raise Refused("SandboxSettingInvalid", "this sandbox uses a cluster that it did not start")
        return ControlPlane(self.folder, programs, self.roster, audit=self.options.audit)

    def environment(self) -> dict[str, str]:
        """What a process needs to use the sandbox, without PATH. Raises Refused before the first start."""
        self._required_state()
        return {
            "KUBECONFIG": str(self.kubeconfig()),
            "KEEP_OPERATOR_DATABASE_URL": self.database_url(),
            "KEEP_OPERATOR_ENCRYPTION_KEY_FILE": str(self.key_file),
            # Old servers cannot prove who decides, and here everybody is the administrator.
            "KEEP_OPERATOR_DECISIONS_UNVERIFIED": "Record",
        }

    def exports(self) -> str:
        """The environment as lines for a shell: ``eval "$(keep-operator sandbox env)"``."""
        lines = [f"export {key}={shlex.quote(value)}" for key, value in self.environment().items()]
        found = tools.ready()
        first = f"{shlex.quote(str(found))}:" if found else ""
        # Last, so that no other program of ours gets in the way of the user's: `kubectl keep` is found there.
        lines.append(f'export PATH={first}"$PATH":{shlex.quote(str(Path(sys.executable).parent))}')
        return "\n".join(lines)

    def status(self) -> list[Component]:
        """One entry for each part of the cluster and for the database; empty before the first start."""
        state = self._state()
        if state is None:
            return []
        if state.database == "given":
            database = Component("database", "given", "by KEEP_OPERATOR_DATABASE_URL")
        else:
            database = status.of_process(self.roster, postgres.NAME, lambda: f"port {self.database.port}")
        return [*self._cluster_status(state), database]

    def _cluster_status(self, state: State) -> list[Component]:
        match state.cluster:
            case "programs":
                etcd, server, controllers = ORDER
                found = [status.of_process(self.roster, etcd)]
                found.append(status.of_process(self.roster, server, lambda: self.control_plane().url))
                if state.programs is not None and state.programs.controller_manager is None:
                    return [*found, Component(controllers, "missing", "nothing owned is collected")]
                return [*found, status.of_process(self.roster, controllers)]
            case "kind":
                cluster = self._kind()
                return [Component("kind", "running" if cluster.ready() else "stopped", cluster.name)]
            case "current":
                return [Component("cluster", "given", kubeconfig.server(self.kubeconfig()) or "")]
            case _:
                assert_never(state.cluster)

    # -- how it starts and stops ----------------------------------------------------------------------------------

    def _start(self, display: Display) -> None:
        tools_folder = tools.ensure(display)
        state = self._decide(display)
        if not self.key_file.exists():
            key = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")
            cache.write_atomically(self.key_file, key + "\n", mode=0o600)
        state.write(self._state_file)
        work: list[Callable[[threading.Event], None]] = []
        if state.database == "embedded":
            work.append(lambda ended: self._start_database(display, ended))
        else:
            self.database.stop()
        match state.cluster:
            case "programs":
                work.append(lambda ended: self._start_control_plane(display, ended))
            case "kind":
                with display.step("start the kind cluster", timedelta(seconds=60)) as step:
                    self._kind(tools_folder).start(step.tick)
            case "current":
                pass
            case _:
                assert_never(state.cluster)
        _side_by_side(work)

    def _decide(self, display: Display) -> State:
        known = self._state()
        database = self._decide_database()
        running = known is not None and known.programs is not None and self.roster.running(ORDER[1])
        if known is not None and running and not self.options.cluster:
            return known.model_copy(update={"database": database})  # up already: nothing to choose or build
        chosen = source.choose(self.options.cluster, self.options.assets)
        if isinstance(chosen, source.Built):
            chosen = source.built(builder.ensure(display))
        match chosen:
            case source.Programs():
                made = ControlPlane(self.folder, chosen, self.roster).version()
                state = State(cluster="programs", programs=chosen, kubernetes=made, database=database)
            case source.Kind():
                state = State(cluster="kind", database=database)
            case source.Current():
                state = State(cluster="current", database=database)
            case _:
                assert_never(chosen)
        if known is not None:
            known.check_successor(self.folder, state)
        if state.cluster == "current":
            self._pin_current_context(known)
        if state.programs is not None and state.programs.controller_manager is None:
            display.say(
                "There is no kube-controller-manager beside the API server: nothing owned is collected, and "
                "namespaces never finish deletion. Put it into KUBEBUILDER_ASSETS, or unset that."
            )
        return state

    def _decide_database(self) -> Literal["embedded", "given"]:
        url = self.options.database_url
        if not url or self.database.is_ours(url):  # ours: from `sandbox env` in the same shell
            return "embedded"
        postgres.check_given(url)
        cache.write_atomically(self._url_file, url + "\n", mode=0o600)
        return "given"

    def _pin_current_context(self, known: State | None) -> None:
        mine = str(self.folder) + os.sep
        if any(part.startswith(mine) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep)):
            if known is not None and known.cluster == "current":
                return  # pinned earlier; KUBECONFIG comes from `sandbox env`
            raise Refused(
                "SandboxSettingInvalid",
                "CLUSTER=current, but KUBECONFIG names this sandbox itself: unset KUBECONFIG, then start again",
            )
        text = kubeconfig.of_current_context(tools.ensure_present() / "kubectl")
        for name in kubeconfig.USERS:
            kubeconfig.write(self.kubeconfig(name), text)

    def _start_database(self, display: Display, ended: threading.Event) -> None:
        if self.roster.running(postgres.NAME):
            return
        with display.step("start PostgreSQL", USUAL_DATABASE) as step:
            self.database.start(_ticking(step, ended))

    def _start_control_plane(self, display: Display, ended: threading.Event) -> None:
        plane = self.control_plane()
        if all(self.roster.running(name) for name in ORDER) and plane.answers("/readyz"):
            return
        with display.step("start the Kubernetes control plane", USUAL_CLUSTER) as step:
            plane.start(_ticking(step, ended))

    def _stop(self, display: Display) -> None:
        if any(process.alive for process in self.roster.all()):
            with display.step("stop the sandbox", timedelta(seconds=2)) as step:
                self.roster.stop_all(step.tick)
        self.roster.stop_all()
        state = self._state()
        if state is not None and state.cluster == "kind":
            self._kind().stop()

    # -- what it keeps --------------------------------------------------------------------------------------------

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    @property
    def _url_file(self) -> Path:
        return self.folder / "database.url"

    def _state(self) -> State | None:
        return read_state(self._state_file)

    def _required_state(self) -> State:
        if state := self._state():
            return state
        raise Refused(
            "SandboxNotStarted", f"there is no sandbox in {self.folder}: make one with `keep-operator sandbox start`"
        )

    def _kind(self, tools_folder: Path | None = None) -> kind.Cluster:
        return kind.Cluster(self.folder, (tools_folder or tools.ensure_present()) / "kubectl")

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(exist_ok=True)
        ignore = self.folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    def _locked(self, display: Display) -> contextlib.AbstractContextManager[None]:
        return cache.locked_openly(
            self.folder / guardian.LOCK, display, "wait: another process starts or stops this sandbox"
        )


def _ticking(step: Step, ended: threading.Event) -> Callable[..., None]:
    def tick(note: str = "") -> None:
        if ended.is_set():
            raise _Interrupted
        step.tick(note)

    return tick


def _side_by_side(work: list[Callable[[threading.Event], None]]) -> None:
    """Does all pieces of work at once; when one fails or Ctrl-C comes, the others are told to end, and it is raised."""
    ended = threading.Event()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        pieces = [threads.submit(piece, ended) for piece in work]
        try:
            concurrent.futures.wait(pieces, return_when=concurrent.futures.FIRST_EXCEPTION)
        finally:
            if any(piece.done() and piece.exception() for piece in pieces) or not all(piece.done() for piece in pieces):
                ended.set()
    failures = [error for piece in pieces if (error := piece.exception())]
    for error in sorted(failures, key=lambda error: isinstance(error, _Interrupted)):
        raise error
