"""What a user can choose about a sandbox, read once from the environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from keep_operator.errors import Refused

FOLDER: Final = ".sandbox"  # in the working directory; git ignores it by a file of its own inside


@dataclass(frozen=True, slots=True)
class Options:
    """Where the sandbox lives, and what is used instead of what it would start itself (empty = its own)."""

    folder: Path
    cluster: str = ""
    assets: str = ""
    database_url: str = field(default="", repr=False)  # holds a password
    audit: bool = False


def read(environ: Mapping[str, str] = os.environ) -> Options:
    """The options that the environment names. Raises Refused when one of them cannot be meant."""
    url = environ.get("KEEP_OPERATOR_DATABASE_URL", "")
    if url and not re.match(r"postgres(ql)?://", url):
        raise Refused(
            "SandboxSettingInvalid",
            "KEEP_OPERATOR_DATABASE_URL must look like postgresql://user:password@host:5432/database; "
            "unset it to get a PostgreSQL of the sandbox's own",
        )
    return Options(
        folder=Path(environ.get("KEEP_OPERATOR_SANDBOX_DIR") or FOLDER).absolute(),
        cluster=environ.get("CLUSTER", ""),
        assets=environ.get("KUBEBUILDER_ASSETS", ""),
        database_url=url,
    )
