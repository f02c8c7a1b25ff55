"""A Kubernetes API server and controller manager, built once and kept in the cache, whoever asks and however often.

::

    bin/ fits manifest.json ──────────────────────────────────────────────────► use it
    else: lock ─► is this machine able? ─► fetch ─► generate ─► compile ─► publish bin/ and manifest.json, drop work/

Each step leaves a stamp, so an interrupted build goes on where it was; Go's own build cache makes that true
inside the long step too.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from keep_operator.errors import Refused
from keep_operator.sandbox import cache, recipe
from keep_operator.sandbox.display import Display
from keep_operator.sandbox.recipe import CODENAME, REMEDY, STAGES, VERSION, Site

RECIPE: Final = 1  # raised when what is built changes: a cache of another recipe is built anew
SERVERS: Final = ("kube-apiserver", "kube-controller-manager")
PROGRAMS: Final = ("etcd", *SERVERS)
NEEDED_BYTES: Final = 3_000_000_000  # 2.6 GB at the widest point, measured, and some air


def site() -> Site:
    """Where this version lives in the cache."""
    return Site(cache.root() / "kubernetes" / VERSION)


def ready() -> Path | None:
    """The folder of programs built earlier, hash-checked; None when there are none that can be used."""
    place = site()
    return place.bin if _damage(place) is None else None


def ensure(display: Display) -> Path:
    """The folder with etcd, kube-apiserver and kube-controller-manager, building what is missing.

    Safe to call from several processes: one builds, the others wait and say so. Safe to interrupt and repeat.
    Raises Refused where this machine cannot build it, Unavailable when a step failed; both say what to do.
    """
    place = site()
    if _damage(place) is None:
        return place.bin
    with cache.locked_openly(place.folder / "lock", display, "wait: another process is building Kubernetes"):
        why = _damage(place)
        if why is not None:
            if place.manifest.exists():
                display.say(f"Kubernetes {VERSION} is built again: {why}")
            _build(place, display)
    return place.bin


def _damage(place: Site) -> str | None:
    return cache.damage(place.bin, place.manifest, recipe=RECIPE, required=PROGRAMS)


def _build(place: Site, display: Display) -> None:
    check_machine(place.folder)
    place.manifest.unlink(missing_ok=True)
    if place.work.is_dir() and not (place.work / f"recipe-{RECIPE}").exists():
        shutil.rmtree(place.work)
    (place.work / "tmp").mkdir(parents=True, exist_ok=True)
    (place.work / f"recipe-{RECIPE}").touch()
    display.say(
        f"Kubernetes {VERSION} is built once from Debian's source package: about 2 min 30 s on two quiet cores, "
        f"up to 3 GB while it lasts. Log: {place.log}"
    )
    for number, stage in enumerate(STAGES, start=1):
        stamp = place.work / f"{stage.name}.done"
        if stamp.exists():
            display.say(f"{number}/{len(STAGES)} {stage.title}: done earlier")
            continue
        with display.step(f"{number}/{len(STAGES)} {stage.title}", stage.usual) as step:
            try:
                stage.perform(place, step)
            except OSError as error:  # our own copying and unpacking
                raise recipe.diagnosed(str(error), f"{stage.title}: {error}", place.log) from error
        stamp.touch()
    _publish(place)
    display.say(f"Kubernetes {VERSION} is built: {place.bin}")


def check_machine(folder: Path, os_release: Path = Path("/etc/os-release")) -> None:
    """Raises Refused, with the remedy, when this machine cannot build: not Debian 12, no apt, or too little disk."""
    facts = dict(re.findall(r'(?m)^(\w+)="?([^"\n]*)"?$', os_release.read_text())) if os_release.exists() else {}
    if facts.get("VERSION_CODENAME") != CODENAME or not shutil.which("apt-get"):
        name = facts.get("PRETTY_NAME", "this system")
        raise Refused(
            "SandboxUnsupported",
            f"the local control plane is built from Debian 12's source package, and this is {name}. {REMEDY} "
            "Or install Docker and kind, or use the cluster of your current context with CLUSTER=current.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    already = sum(p.lstat().st_size for p in (folder / "work").rglob("*") if p.is_file() and not p.is_symlink())
    if free + already < NEEDED_BYTES:
        raise Refused(
            "SandboxDiskFull",
            f"building Kubernetes needs about 3 GB in {folder}, and {free / 1e9:.1f} GB are free. "
            f"Free some, or point XDG_CACHE_HOME to a larger disk. {REMEDY}",
        )


def _publish(place: Site) -> None:
    staged = place.work / "bin"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    shutil.copy2(place.unpacked / "usr/bin/etcd", staged / "etcd")
    shutil.copy2(place.work / "control-plane", staged / "control-plane")
    for name in SERVERS:
        (staged / name).symlink_to("control-plane")
    said = subprocess.run([staged / SERVERS[0], "--version"], capture_output=True, text=True, check=False)
    if said.stdout.split() != ["Kubernetes", f"v{VERSION}"]:
        raise recipe.diagnosed(said.stderr, f"the new API server does not run: {said.stdout}{said.stderr}", place.log)
    shutil.rmtree(place.bin, ignore_errors=True)
    staged.rename(place.bin)
    (source,) = (place.work / "downloads").glob("kubernetes_*.dsc")
    names = ("control-plane", *PROGRAMS)
    made = cache.Manifest.of(place.bin, names, version=VERSION, recipe=RECIPE, source=source.name)
    made.write(place.manifest)
    shutil.rmtree(place.work)
