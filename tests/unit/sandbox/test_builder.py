"""How the build is kept: the recipe's steps are replaced by quick ones, everything around them is real."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from keep_operator.errors import Refused, Unavailable
from keep_operator.sandbox import builder, recipe
from keep_operator.sandbox.display import Step
from keep_operator.sandbox.recipe import Site, Stage
from unit.sandbox.recorder import Recorder

pytestmark = pytest.mark.unit

NEW_SERVER = f"#!/bin/sh\necho Kubernetes v{recipe.VERSION}\n"


class Steps:
    """Quick steps that leave what the real ones leave, count their calls, and fail or are interrupted on demand."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.trouble: dict[str, BaseException] = {}
        self.server = NEW_SERVER

    def stages(self) -> tuple[Stage, ...]:
        performs: dict[str, Callable[[Site], None]] = {"fetch": self._fetch, "compile": self._compile}
        return tuple(Stage(name, name, timedelta(seconds=1), self._counted(name, do)) for name, do in performs.items())

    def _counted(self, name: str, do: Callable[[Site], None]) -> Callable[[Site, Step], None]:
        def perform(place: Site, step: Step) -> None:
            self.done.append(name)
            if name in self.trouble:
                raise self.trouble.pop(name)
            do(place)

        return perform

    def _fetch(self, place: Site) -> None:
        (place.unpacked / "usr/bin").mkdir(parents=True)
        (place.unpacked / "usr/bin/etcd").write_text("etcd")
        (place.work / "downloads").mkdir()
        (place.work / "downloads/kubernetes_1.dsc").touch()

    def _compile(self, place: Site) -> None:
        program = place.work / "control-plane"
        program.write_text(self.server)
        program.chmod(0o755)


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(builder, "STAGES", steps.stages())
    monkeypatch.setattr(builder, "check_machine", lambda folder: None)
    return steps


def test_the_first_call_builds_and_the_second_uses_what_is_there(steps: Steps) -> None:
    """Two and a half minutes are paid once; afterwards only the programs and their manifest are kept."""
    assert builder.ready() is None
    found = builder.ensure(Recorder())
    assert (found / "kube-apiserver").resolve() == found / "control-plane"
    assert not builder.site().work.exists()
    shown = Recorder()
    assert builder.ensure(shown) == builder.ready() == found
    assert steps.done == ["fetch", "compile"]
    assert not shown.said


def test_an_interrupted_build_goes_on_where_it_was(steps: Steps) -> None:
    """Ctrl-C in the long step does not throw the finished ones away."""
    steps.trouble["compile"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        builder.ensure(Recorder())
    assert builder.ready() is None
    builder.ensure(Recorder())
    assert steps.done == ["fetch", "compile", "compile"]


def test_a_tampered_program_is_never_used(steps: Steps) -> None:
    """Another file in place of the API server leads to a new build, which says why."""
    found = builder.ensure(Recorder())
    (found / "control-plane").write_text(NEW_SERVER + "# and something else\n")
    assert builder.ready() is None
    shown = Recorder()
    builder.ensure(shown)
    assert "is not the file that the manifest names" in shown.said[0]
    assert (found / "control-plane").read_text() == NEW_SERVER


def test_a_work_tree_of_another_recipe_is_not_continued(steps: Steps) -> None:
    """An update in the middle of a build starts over instead of mixing two recipes."""
    steps.trouble["compile"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        builder.ensure(Recorder())
    (builder.site().work / f"recipe-{builder.RECIPE}").rename(builder.site().work / "recipe-0")
    builder.ensure(Recorder())
    assert steps.done == ["fetch", "compile", "fetch", "compile"]


def test_a_program_that_does_not_run_is_not_kept(steps: Steps) -> None:
    """A server that cannot even tell its version is no result."""
    steps.server = "#!/bin/sh\necho broken >&2; exit 1\n"
    with pytest.raises(Unavailable, match="the new API server does not run"):
        builder.ensure(Recorder())
    assert builder.ready() is None


def test_a_disk_that_is_full_in_the_middle_is_named(steps: Steps) -> None:
    """The error says what is full and how to use another disk."""
    steps.trouble["fetch"] = OSError(28, "No space left on device")
    with pytest.raises(Unavailable, match=r"the disk is full.*XDG_CACHE_HOME"):
        builder.ensure(Recorder())


OTHER = 'PRETTY_NAME="Fedora Linux 43"\nID=fedora\n'
BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'


def test_a_machine_that_is_not_debian_12_is_told_its_three_ways_out(tmp_path: Path) -> None:
    """Without Debian's source package there are programs of one's own, kind, and the current cluster."""
    (tmp_path / "os-release").write_text(OTHER)
    with pytest.raises(Refused, match=r"this is Fedora Linux 43.*KUBEBUILDER_ASSETS.*kind.*CLUSTER=current"):
        builder.check_machine(tmp_path / "cache", tmp_path / "os-release")


def test_too_little_disk_is_refused_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a build that fails on a full disk helps nobody."""
    (tmp_path / "os-release").write_text(BOOKWORM)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 10**9))
    with pytest.raises(Refused, match=r"needs about 3 GB in .* and 1\.0 GB are free"):
        builder.check_machine(tmp_path / "cache", tmp_path / "os-release")
