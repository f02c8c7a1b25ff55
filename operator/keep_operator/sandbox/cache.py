"""What the sandbox keeps under ``~/.cache/keep-operator``: where it is, how it is checked, how two processes share it."""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pydantic

from keep_operator.sandbox.display import Display, Step

LOCK_POLL_S: Final = 0.2  # seconds between two looks at a lock that another process holds: below what a person notices


def root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of everything cached, after the XDG base directory specification (a relative XDG path is ignored)."""
    given = environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return base / "keep-operator"


class Manifest(pydantic.BaseModel):
    """What a cached folder must hold: ``files`` maps a path inside the folder to the SHA-256 of its content."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    version: str
    recipe: int
    source: str
    files: dict[str, str]

    @staticmethod
    def of(folder: Path, files: Iterable[str], *, version: str, recipe: int, source: str) -> "Manifest":
        """The manifest of ``files`` as they stand in ``folder`` now."""
        sums = {name: sha256(folder / name) for name in files}
        return Manifest(version=version, recipe=recipe, source=source, files=sums)

    def write(self, path: Path) -> None:
        """Writes the manifest so that a reader sees the old one or the new one, never a part."""
        write_atomically(path, self.model_dump_json(indent=1) + "\n")


def damage(folder: Path, manifest_path: Path, *, recipe: int, required: Iterable[str]) -> str | None:
    """Why ``folder`` cannot be used, or None when each required file is there and has the recorded SHA-256."""
    try:
        manifest = Manifest.model_validate_json(manifest_path.read_text())
    except FileNotFoundError:
        return "there is no manifest"
    except (OSError, ValueError):
        return f"{manifest_path} cannot be read"
    if manifest.recipe != recipe:
        return f"it was made by recipe {manifest.recipe}, this is recipe {recipe}"
    for name in sorted(set(required) - manifest.files.keys()):
        return f"{name} is not in the manifest"
    sums: dict[Path, str] = {}  # links to one program are read once
    for name, expected in manifest.files.items():
        try:
            target = (folder / name).resolve(strict=True)
            if target not in sums:
                sums[target] = sha256(target)
        except OSError:
            return f"{folder / name} is missing"
        if sums[target] != expected:
            return f"{folder / name} is not the file that the manifest names"
    return None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Writes a file under a temporary name and renames it; ``mode`` holds from the first byte on."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[int]:
    """Holds an exclusive lock on ``path``; ``waiting`` is called again and again while another process holds it.

    Yields the file descriptor: whoever inherits it holds the lock too. The lock ends with the processes that hold it,
    however they end, so a crash leaves nothing to clean. ``waiting`` may raise to give up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                time.sleep(LOCK_POLL_S)
        yield file.fileno()


@contextlib.contextmanager
def locked_openly(path: Path, display: Display, title: str) -> Iterator[None]:
    """Like ``locked``; while another process holds the lock, a step called ``title`` shows that we wait."""
    with contextlib.ExitStack() as wait:
        steps: list[Step] = []

        def waiting() -> None:
            if not steps:
                steps.append(wait.enter_context(display.step(title)))
            steps[0].tick()

        with locked(path, waiting):
            wait.close()
            yield
