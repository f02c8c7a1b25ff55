"""Where the read API is, and with which token; its own module, since `read_api` takes longer to load than most commands run."""

from dataclasses import dataclass, field
from typing import Final

# Where an installation has `keep-operator console`.
SERVICE: Final = "keep-operator/keep-operator-console"


@dataclass(frozen=True, slots=True)
class Reach:
    """``url`` goes before ``service`` (NAMESPACE/NAME); without a ``token`` the kubeconfig's is used."""

    url: str | None
    service: str
    token: str | None = field(repr=False)
