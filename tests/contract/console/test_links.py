"""What is written into statuses and Events leads to pages that there are."""

from uuid import UUID

import pytest
from starlette.routing import compile_path

from keep_operator.console.pages import front
from keep_operator.domain.links import Links
from keep_operator.resources.kinds import PROVIDERS, WORKFLOWS

pytestmark = pytest.mark.contract

CONSOLE = "https://keep.example.com"
LINKS = Links(CONSOLE)


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        (LINKS.run(UUID(int=7)), "/r/{run}"),
        (LINKS.object(WORKFLOWS.kind, "team", "high-cpu"), "/w/{namespace}/{name}"),
        (LINKS.object(PROVIDERS.kind, "team", "vms"), "/p/{namespace}/{name}"),
    ],
)
def test_a_link_leads_to_a_page(url: str, pattern: str) -> None:
    """Whoever follows a link out of a status or an Event does not find a page that is missing."""
    assert pattern in [page.path for page in front.PAGES]
    path, _, _ = compile_path(pattern)
    assert path.fullmatch(url.removeprefix(CONSOLE))
