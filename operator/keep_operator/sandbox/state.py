"""What one sandbox folder is: decided at its first start, kept in ``state.json`` until it is reset."""

from pathlib import Path
from typing import Literal

import pydantic

from keep_operator.errors import Refused
from keep_operator.sandbox import cache
from keep_operator.sandbox.source import Programs

RESET = "run `keep-operator sandbox reset` first, or name another folder with KEEP_OPERATOR_SANDBOX_DIR"


class State(pydantic.BaseModel):
    """Which kind of cluster, which programs and version, whose database."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    cluster: Literal["programs", "kind", "current"]
    programs: Programs | None = None
    kubernetes: tuple[int, int] | None = None
    database: Literal["embedded", "given"]

    def __str__(self) -> str:
        if self.kubernetes is None:
            return f"the cluster `{self.cluster}`"
        return f"Kubernetes {self.kubernetes[0]}.{self.kubernetes[1]}"

    def check_successor(self, folder: Path, state: "State") -> None:
        """Raises Refused when the data of this state cannot be used by ``state``: another kind, or an older version."""
        older = self.kubernetes and state.kubernetes and state.kubernetes < self.kubernetes
        if self.cluster != state.cluster or older:
            raise Refused(
                "SandboxSettingInvalid",
                f"the sandbox in {folder} was made with {self}, and this start asks for {state}: {RESET}",
            )

    def write(self, path: Path) -> None:
        """Keeps the state."""
        cache.write_atomically(path, self.model_dump_json(indent=1) + "\n")


def read(path: Path) -> State | None:
    """The state of a folder, None before its first start. Raises Refused when the file cannot be understood."""
    try:
        return State.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Refused(
            "SandboxDamaged", f"{path} cannot be read: stop what may still run, then remove {path.parent}"
        ) from error
