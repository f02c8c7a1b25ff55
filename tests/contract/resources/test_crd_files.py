"""The files in `crds/` and in the package are those that the code makes."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from keep_operator.domain import catalogue
from keep_operator.resources import crds

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[3]
RECORDED = ROOT.parent / "shared" / "data" / "keep-provider-catalog.json"


def test_crds_are_not_stale() -> None:
    """What `kubectl apply -f crds/` installs is what this release's models say."""
    expected = {crds.file_name(crd): crds.render(crd) for crd in crds.build_all()}
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "crds").iterdir()}
    assert found == expected, "run `make generate`"


def test_making_them_reads_and_needs_nothing() -> None:
    """The models are cheap to load: no Kubernetes client, no SQL, no HTTP library comes with them."""
    script = "import sys; from keep_operator.resources import crds; crds.build_all(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert not {"kubernetes", "kopf", "aiohttp", "sqlalchemy", "psycopg", "asyncio"} & set(loaded)


def test_the_catalogue_is_in_the_wheel(tmp_path: Path) -> None:
    """An installed operator knows the provider types as the source tree does."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        shipped = json.loads(packed.read("keep_operator/domain/catalogue.json"))
    assert tuple(shipped["types"]) == catalogue.names()


@pytest.mark.shared_data("the recorded answer of a running Keep stands beside the project")
@pytest.mark.skipif(not RECORDED.is_file(), reason="the folder of recorded Keep data is not beside the project")
def test_the_catalogue_says_what_keep_says() -> None:
    """The facts are Keep's own; only defaults that are prose are left out."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["providers"]
    assert tuple(sorted(facts["type"] for facts in recorded)) == catalogue.names()
    for facts in recorded:
        found = catalogue.find(facts["type"])
        assert found is not None
        assert found.display_name == facts["displayName"]
        assert [scope.name for scope in found.scopes] == [scope["name"] for scope in facts["scopes"]]
        assert (found.can_query, found.can_notify) == (facts["canQuery"], facts["canNotify"])
        assert (found.pulling, found.coming_soon) == (facts["pulling"], facts["comingSoon"])
        assert set(found.fields) == set(facts["fields"])
        for name, field in found.fields.items():
            recorded_field = facts["fields"][name]
            assert field.required == recorded_field["required"]
            assert field.sensitive == recorded_field["sensitive"]
            assert field.validation == recorded_field.get("validation")
            assert field.default in {recorded_field.get("default"), None}
