import contextlib
import os
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from keep_operator.sandbox import cache
from keep_operator.sandbox.display import Step
from unit.sandbox.recorder import Recorder

pytestmark = pytest.mark.unit


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "server").write_text("a program")
    (folder / "alias").symlink_to("server")
    made = cache.Manifest.of(folder, ["server", "alias"], version="1.2.3", recipe=4, source="a.dsc")
    made.write(tmp_path / "manifest.json")
    return tmp_path


def damage(kept: Path, recipe: int = 4, required: tuple[str, ...] = ("server", "alias")) -> str | None:
    return cache.damage(kept / "bin", kept / "manifest.json", recipe=recipe, required=required)


def test_what_was_kept_and_not_touched_can_be_used(kept: Path) -> None:
    """The second start uses what the first one made."""
    assert damage(kept) is None


def test_a_changed_program_is_not_used(kept: Path) -> None:
    """A program with one other byte never runs."""
    (kept / "bin/server").write_text("A program")
    assert damage(kept) == f"{kept}/bin/server is not the file that the manifest names"


def test_a_link_turned_to_another_program_is_not_used(kept: Path) -> None:
    """The name counts for what it leads to."""
    (kept / "bin/other").write_text("another program")
    (kept / "bin/alias").unlink()
    (kept / "bin/alias").symlink_to("other")
    assert damage(kept) == f"{kept}/bin/alias is not the file that the manifest names"


@pytest.mark.parametrize("victim", ["bin/server", "bin/alias", "manifest.json"])
def test_an_incomplete_folder_is_not_used(kept: Path, victim: str) -> None:
    """A cache cleaned by half is as if it was empty."""
    (kept / victim).unlink()
    assert damage(kept) is not None


@pytest.mark.parametrize("text", ["", "{", '{"version": "1"}', '{"version": "1", "surprise": true}'])
def test_a_broken_manifest_is_not_believed(kept: Path, text: str) -> None:
    """A manifest cut short by a full disk vouches for nothing."""
    (kept / "manifest.json").write_text(text)
    assert damage(kept) == f"{kept}/manifest.json cannot be read"


def test_a_new_recipe_makes_the_old_result_useless(kept: Path) -> None:
    """After an update of keep-operator that builds differently, the cache is built again."""
    assert damage(kept, recipe=5) == "it was made by recipe 4, this is recipe 5"


def test_a_program_that_the_manifest_does_not_know_is_not_used(kept: Path) -> None:
    """Nobody adds a program to a checked folder."""
    (kept / "bin/extra").touch()
    assert damage(kept, required=("server", "extra")) == "extra is not in the manifest"


def test_the_cache_follows_the_xdg_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME moves the cache; a relative one is ignored, as the specification says."""
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.root({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "keep-operator"
    assert cache.root({"XDG_CACHE_HOME": "somewhere"}) == Path("/home/someone/.cache/keep-operator")
    assert cache.root({}) == Path("/home/someone/.cache/keep-operator")


def test_a_secret_file_is_never_readable_for_others(tmp_path: Path) -> None:
    """Not even for the moment in which it is written, nor after it is written again."""
    target = tmp_path / "secret"
    before = os.umask(0)
    try:
        for text in ("one", "two"):
            cache.write_atomically(target, text, mode=0o600)
            assert stat.S_IMODE(target.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert target.read_text() == "two"
    assert list(tmp_path.iterdir()) == [target]


HOLDER = """
import sys, time
from pathlib import Path
from keep_operator.sandbox import cache
from keep_operator.sandbox.display import Step
with cache.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


def test_a_second_process_says_that_it_waits_and_goes_on_when_the_first_dies(tmp_path: Path) -> None:
    """A crashed build leaves no lock behind; meanwhile the other one tells what it waits for."""
    argv = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"

        class Killing(Recorder):
            def step(self, title: str, usual: timedelta | None = None) -> contextlib.AbstractContextManager[Step]:
                other.kill()
                return super().step(title, usual)

        display = Killing()
        with cache.locked_openly(tmp_path / "lock", display, "wait for the other"):
            assert display.said == ["wait for the other"]


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path) -> None:
    """Nothing is said about waiting when there is nothing to wait for."""
    display = Recorder()
    with cache.locked_openly(tmp_path / "new/lock", display, "wait for the other"):
        assert not display.said
