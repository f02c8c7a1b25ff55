"""The kubeconfig files of a sandbox: one user each, everything inside, readable by their owner alone."""

import base64
import subprocess
from pathlib import Path
from typing import Final

import yaml

from keep_operator.errors import Refused
from keep_operator.sandbox import cache
from keep_operator.sandbox.certificates import Credential, Identity

CLUSTER: Final = "keep-operator-sandbox"

ADMIN: Final = Identity("admin", ("system:masters",))
OPERATOR: Final = Identity("keep-operator")  # no group: it can do what the chart's role says and nothing more
CONSOLE: Final = Identity("keep-operator-console")  # likewise
DEVELOPER: Final = Identity("developer")  # nothing is granted: what tests and examples bind
USERS: Final = {"admin": ADMIN, "operator": OPERATOR, "console": CONSOLE, "developer": DEVELOPER}


def path(folder: Path, name: str) -> Path:
    """Where the kubeconfig called ``name`` lies in a sandbox's folder."""
    return folder / f"{name}.kubeconfig"


def render(server: str, ca: bytes, identity: Identity, credential: Credential) -> str:
    """The kubeconfig, YAML, by which ``identity`` reaches the API server at the URL ``server``."""
    context = f"{identity.user}@{CLUSTER}"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CLUSTER, "cluster": {"server": server, "certificate-authority-data": _text(ca)}}],
            "users": [
                {
                    "name": identity.user,
                    "user": {
                        "client-certificate-data": _text(credential.certificate),
                        "client-key-data": _text(credential.key),
                    },
                }
            ],
            "contexts": [{"name": context, "context": {"cluster": CLUSTER, "user": identity.user}}],
            "current-context": context,
        },
        sort_keys=False,
        width=10_000,
    )


def write(target: Path, text: str) -> None:
    """Writes a kubeconfig, readable by its owner alone."""
    cache.write_atomically(target, text, mode=0o600)


def server(target: Path) -> str | None:
    """The API server's URL that a kubeconfig names; None when there is no such file."""
    try:
        content = yaml.safe_load(target.read_text())
    except FileNotFoundError:
        return None
    return str(content["clusters"][0]["cluster"]["server"])


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def of_current_context(kubectl: Path) -> str:
    """The user's current context alone, with everything it needs inside; later switches of context change nothing.

    This is the one place that reads the user's own kubeconfig, and it is used for ``CLUSTER=current`` only. Raises
    Refused when there is no current context.
    """
    argv = [str(kubectl), "config", "view", "--minify", "--flatten", "--raw"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(
            "SandboxSettingInvalid",
            f"CLUSTER=current needs a current context, and kubectl says: {done.stderr.strip()[-300:]}. "
            "Choose one with `kubectl config use-context`, or unset CLUSTER to get a sandbox of your own",
        )
    return done.stdout
