"""Where a definition is read from, and how seldom."""

import asyncio
from typing import Any, cast

import pytest

from keep_operator.domain.desired import Desired, Missing
from keep_operator.domain.history import Flaw
from keep_operator.errors import Unavailable
from keep_operator.reconcile import definitions
from keep_operator.reconcile.definitions import Definitions
from keep_operator.resources import objects, workflow
from keep_operator.resources.shapes import Invalid
from unit.builders import manifest

pytestmark = pytest.mark.unit

GOOD = "workflow:\n  triggers: [{type: manual}]\n  actions: []\n"
FROM_FILE = {"definitionFrom": {"configMapKeyRef": {"name": "files", "key": "flow"}}}


class Files:
    """ConfigMaps, and the watch of their metadata; ``reads`` counts how often one was fetched."""

    def __init__(self) -> None:
        self.data: dict[str, str] | None = None
        self.seen: str | None = None
        self.version_ = 0
        self.reads = 0
        self.failures = 0

    def put(self, **data: str) -> None:
        """The ConfigMap is written, and the watch tells."""
        self.data, self.version_ = data, self.version_ + 1
        self.seen = str(self.version_)

    def uid(self, namespace: str, name: str) -> str | None:
        return None if self.seen is None else "uid-files"

    def version(self, namespace: str, name: str) -> str | None:
        return self.seen

    async def get(self, *_: object) -> dict[str, Any] | None:
        self.reads += 1
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise Unavailable("ApiServerUnavailable", "no answer")
        metadata = {"uid": "uid-files", "resourceVersion": str(self.version_)}
        return None if self.data is None else {"metadata": metadata, "data": self.data}


class Reader:
    """Definitions over these files."""

    def __init__(self) -> None:
        self.files = Files()
        self.definitions = Definitions(cast(Any, self.files), cast(Any, self.files))

    async def read(self, spec: dict[str, Any] | None = None, **metadata: Any) -> Any:
        """What the spec asks for."""
        raw = manifest("flow", spec or FROM_FILE, namespace="monitoring", **metadata)
        obj = objects.parse("Workflow", raw, workflow)
        assert not isinstance(obj.spec, Invalid), obj.spec
        return await self.definitions.wanted(obj, obj.spec)


@pytest.fixture
def reader() -> Reader:
    """No ConfigMap yet."""
    return Reader()


async def test_what_is_missing_is_named(reader: Reader) -> None:
    """The ConfigMap, then the key in it: nobody has to guess what to create."""
    assert await reader.read() == Missing("Waiting for ConfigMap files")
    assert reader.files.reads == 0
    reader.files.put(other=GOOD)
    assert await reader.read() == Missing("Waiting for key flow in the data of ConfigMap files")
    reader.files.put(other=GOOD)
    reader.files.data = None  # gone before it was read, and the watch has not told yet
    assert await reader.read() == Missing("Waiting for ConfigMap files")


async def test_a_file_is_read_once_for_each_version(reader: Reader) -> None:
    """A reconcile looks several times, and two hundred Workflows may name one ConfigMap."""
    reader.files.put(flow=GOOD)
    first = await reader.read()
    assert isinstance(first, Desired)
    assert await reader.read() is first
    assert reader.files.reads == 1
    reader.files.put(flow="actions: [")
    assert isinstance(await reader.read(), Flaw)
    assert reader.files.reads == 2


async def test_many_that_name_one_file_read_it_once(reader: Reader) -> None:
    """A folder of workflows in one ConfigMap, each under its own key, is applied at once; a new version is read once again."""
    for count in (1, 2):
        reader.files.put(**{f"flow-{number}": GOOD for number in range(73)})
        named = [{"configMapKeyRef": {"name": "files", "key": f"flow-{number}"}} for number in range(73)]
        found = await asyncio.gather(*(reader.read({"definitionFrom": each}) for each in named))
        assert all(isinstance(each, Desired) for each in found)
        assert reader.files.reads == count


async def test_who_waits_for_a_file_that_cannot_be_read_reads_it_himself(reader: Reader) -> None:
    """The API server was away for one of two: the other is not told what it was told."""
    reader.files.put(flow=GOOD)
    reader.files.failures = 1
    found = await asyncio.gather(reader.read(), reader.read(), return_exceptions=True)
    assert [type(each) for each in found] == [Unavailable, Desired]


async def test_a_file_that_is_newer_than_the_watch_has_told(reader: Reader) -> None:
    """What was read is kept under its own version, not under the one that was expected."""
    reader.files.put(flow="actions: [")
    seen = reader.files.seen
    reader.files.put(flow=GOOD)
    reader.files.seen = seen
    assert isinstance(await reader.read(), Desired)
    reader.files.seen = str(reader.files.version_)
    assert isinstance(await reader.read(), Desired)
    assert reader.files.reads == 1


async def test_an_edit_of_the_spec_is_read_anew(reader: Reader) -> None:
    """By uid and generation, since that is what the API server changes with each."""
    says = {"name": "say", "provider": {"type": "console", "with": {"message": "hello"}}}
    one = {"definition": {"triggers": [{"type": "manual"}], "actions": [says]}}
    first = await reader.read(one)
    assert await reader.read(one) is first
    other = await reader.read({"definition": {"steps": "none"}}, generation=2)
    assert (first.flaw, other.flaw.reason) == (None, "SchemaError")
    again = await reader.read({"definition": {"steps": "none"}}, uid="another")
    assert again.flaw is not None


async def test_what_is_remembered_is_bounded(reader: Reader) -> None:
    """However many Workflows there are."""
    for number in range(definitions.REMEMBERED + 5):
        await reader.read({"definition": {"consts": {"number": number}}}, uid=f"uid-{number}")
    assert len(reader.definitions._judged) == definitions.REMEMBERED
    for number in range(definitions.FILES + 5):
        reader.files.put(flow=f"{GOOD}# {number}")
        await reader.read()
    assert len(reader.definitions._files) == definitions.FILES
