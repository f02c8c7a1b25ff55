"""The chart as its users have it: rendered, refused and installed by Helm 3 and Helm 4."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from keep_operator.sandbox import display, tools

Json = dict[str, Any]
ROOT: Final = Path(__file__).parents[1]
CHART: Final = ROOT / "charts" / "keep-operator"
RELEASE: Final = "keep-operator"
NAMESPACE: Final = "keep-operator"
# The oldest that the chart can be installed on, the oldest that is supported, the newest that the tests know.
ANCIENT, OLDEST, NEWEST = "1.20.2", "1.29.0", "1.37.0"


@dataclass(frozen=True, slots=True)
class Helm:
    """One helm program. ``kubeconfig`` names the cluster; rendering needs none."""

    program: Path
    kubeconfig: Path | None = None

    def run(self, *args: str, values: Json | None = None) -> subprocess.CompletedProcess[str]:
        """Whatever comes of a command; values, where they are given, go in by standard input."""
        given = {key: value for key, value in os.environ.items() if not key.startswith("HELM_") and key != "KUBECONFIG"}
        if self.kubeconfig:
            given["KUBECONFIG"] = str(self.kubeconfig)
        return subprocess.run(
            [self.program, *args, *([] if values is None else ["--values", "-"])],
            input=None if values is None else json.dumps(values),
            env=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def do(self, *args: str, values: Json | None = None) -> str:
        """What a command prints; it has to succeed."""
        done = self.run(*args, values=values)
        assert done.returncode == 0, f"helm {' '.join(args)}: {done.stdout}{done.stderr}"
        return done.stdout

    def render(
        self,
        values: Json | None = None,
        kubernetes: str = NEWEST,
        chart: Path = CHART,
        namespace: str = NAMESPACE,
    ) -> list[Json]:
        """The objects of the release, sorted by kind and name; nobody is to change them."""
        return _rendered(self, json.dumps(values or {}), kubernetes, chart, namespace)

    def notes(self, values: Json | None = None, release: str = RELEASE) -> str:
        """What an installation on a current server tells in the end; none is done, and no cluster asked."""
        asked = ("install", release, str(CHART), f"--namespace={NAMESPACE}", "--dry-run=client")
        return Helm(self.program, Path(os.devnull)).do(*asked, values=values or {}).partition("\nNOTES:\n")[2]

    def refusal(self, values: Json) -> str:
        """Why the values are refused."""
        done = self.run("template", RELEASE, str(CHART), values=values)
        assert done.returncode != 0, f"these values are taken: {values}"
        return done.stderr


@cache
def helm(package: tools.Package = tools.CURRENT) -> Helm:
    """The program of a package, fetched when it is not there yet."""
    with display.opened() as shown:
        return Helm(tools.ensure(shown, package) / "helm")


@cache
def _rendered(program: Helm, values: str, kubernetes: str, chart: Path, namespace: str) -> list[Json]:
    where = (f"--namespace={namespace}", f"--kube-version={kubernetes}")
    text = program.do("template", RELEASE, str(chart), *where, values=json.loads(values))
    return sorted(filter(None, yaml.load_all(text, yaml.CSafeLoader)), key=_name)


def of_kind(objects: list[Json], kind: str, name: str | None = None) -> list[Json]:
    """Those of one kind, of one name if it is given."""
    return [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]


def one(objects: list[Json], kind: str, name: str = RELEASE) -> Json:
    """The only one of that kind and name."""
    (found,) = of_kind(objects, kind, name)
    return found


def environment(container: Mapping[str, Any]) -> dict[str, Any]:
    """What a container's environment says, by name: the value, or where it comes from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def _name(each: Json) -> tuple[str, str, str]:
    return each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]
