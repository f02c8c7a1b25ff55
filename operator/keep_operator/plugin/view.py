"""A workflow and its versions as their objects tell it, and how people name a version.

::

    3, v3 ─ production, tag:3 ─ 9f2c41aa ─ active, desired, latest, previous
    number       tag            hash        what it is just now

Of versions that are archived there is no object: the read API is asked for them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from keep_operator.plugin import ends
from keep_operator.plugin.kubectl import Json, Kubectl
from keep_operator.plugin.reach import Reach
from keep_operator.resources.kinds import GROUP, WORKFLOW_REVISIONS, WORKFLOWS

# A label holds so many characters; the operator cuts longer names.
_LABEL_LIMIT: Final = 63
_NUMBER: Final = re.compile(r"v?([1-9][0-9]{0,8})")
_HASH: Final = re.compile(r"[0-9a-f]{8,64}")
_SHORT: Final = 8


@dataclass(frozen=True, slots=True)
class Version:
    """One version, from its WorkflowRevision."""

    object: Json

    @property
    def spec(self) -> Json:
        """What never changes of it."""
        spec: Json = self.object["spec"]
        return spec

    @property
    def status(self) -> Json:
        """What has become of it."""
        return self.object.get("status") or {}

    @property
    def number(self) -> int:
        """Its number."""
        return int(self.spec["number"])

    @property
    def content_hash(self) -> str:
        """All 64 digits."""
        return str(self.spec["contentHash"])

    @property
    def definition(self) -> Json:
        """What it does."""
        definition: Json = self.spec["definition"]
        return definition

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that point to it."""
        return tuple(self.status.get("tags") or ())

    @property
    def made(self) -> str | None:
        """Since when there is the version, as far as its object knows: one that was brought back is younger than that."""
        times = (self.object["metadata"].get("creationTimestamp"), self.status.get("firstActiveAt"))
        return min(filter(None, times), default=None)

    @property
    def archived(self) -> bool:
        """Whether it has no object any more."""
        return "name" not in self.object["metadata"]

    @property
    def short_hash(self) -> str:
        """As many digits as people compare."""
        return self.content_hash[:_SHORT]

    def condition(self, kind: str) -> Mapping[str, str]:
        """One of its conditions; empty if it does not have it."""
        return next((each for each in self.status.get("conditions") or () if each["type"] == kind), {})

    def __str__(self) -> str:
        return f"v{self.number} ({self.short_hash})"


@dataclass(frozen=True, slots=True)
class View:
    """One workflow; ``versions`` are those that have an object, the newest first."""

    workflow: Json
    versions: tuple[Version, ...]

    @property
    def name(self) -> str:
        """The workflow's name."""
        return str(self.workflow["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Where it is."""
        return str(self.workflow["metadata"]["namespace"])

    @property
    def status(self) -> Json:
        """What the operator says of it; empty before its first look."""
        return self.workflow.get("status") or {}

    @property
    def hold(self) -> Json | None:
        """The rollback that is in force."""
        return self.status.get("hold")

    @property
    def canary(self) -> Json | None:
        """The canary that is under way."""
        return self.status.get("canary")

    @property
    def release(self) -> Json:
        """What its spec says of how new versions take over."""
        release: Json = (self.workflow.get("spec") or {}).get("release") or {}
        return release

    @property
    def pin(self) -> Json | None:
        """The version that the spec insists on."""
        return self.release.get("pin")

    @property
    def approving_groups(self) -> frozenset[str]:
        """The groups whose approval its spec asks for; the Tenant may ask for others."""
        approval = self.release.get("approval") or {}
        return frozenset((approval.get("approvers") or {}).get("groups") or ())

    @property
    def active_number(self) -> int | None:
        """The number of the version that takes runs."""
        return (self.status.get("activeRevision") or {}).get("number")

    @property
    def desired_number(self) -> int | None:
        """The number of the version that the spec asks for; None while it has none, as when the definition is broken."""
        return (self.status.get("desiredRevision") or {}).get("number")

    def condition(self, kind: str) -> Mapping[str, str]:
        """One of the workflow's conditions; empty if it does not have it."""
        return next((each for each in self.status.get("conditions") or () if each["type"] == kind), {})

    def state(self, version: Version) -> str:
        """What a version is just now, in a word or two."""
        if version.number == self.active_number:
            return "active"
        for kind, word in (("Rejected", "rejected"), ("Denied", "denied")):
            if version.condition(kind).get("status") == "True":
                return word
        if version.condition("Valid").get("status") == "False":
            return "invalid"
        if version.number == (self.canary or {}).get("revision"):
            return "canary"
        if version.archived:
            return "archived"
        if self.hold is not None and version.content_hash == self.hold.get("rejectedHash"):
            return "held back"
        if version.number == self.desired_number:
            waits = version.condition("Ready").get("reason") == "AwaitingApproval"
            return "awaits approval" if waits else "desired"
        was = {"Reserve": "was active", "Superseded": "overtaken", "NeverActive": "never active"}
        return was.get(version.condition("Active").get("reason", ""), "")

    @property
    def forgets(self) -> bool:
        """Whether a version that was active lately is archived: then objects do not tell the way back."""
        known = {each.number for each in self.versions}
        return any(each["revision"] not in known for each in self.status.get("history") or ())

    def find(self, reference: str) -> Version | None:
        """The version that somebody means; None: none that has an object. Raises Missing for what means nothing now."""
        match reference:
            case "active":
                return self._numbered(self.active_number, f"No version of {self.name} is active")
            case "desired":
                return self._numbered(self.desired_number, f"What the spec of {self.name} asks for has no version")
            case "latest":
                return self.versions[0] if self.versions else self._numbered(None, f"{self.name} has no versions yet")
            case "previous":
                number = None if self.forgets else _previous(self)
                return next((each for each in self.versions if each.number == number), None)
        tagged = reference.removeprefix("tag:")
        if tagged == reference and (number := as_number(reference)) is not None:
            found = next((each for each in self.versions if each.number == number), None)
            if found is not None:
                return found
        found = next((each for each in self.versions if tagged in each.tags), None)
        if found is None and _HASH.fullmatch(reference):
            same = [each for each in self.versions if each.content_hash.startswith(reference)]
            if len({each.content_hash for each in same}) > 1:
                raise ends.Missing(f"{reference} is the beginning of several hashes: {', '.join(map(str, same))}")
            # Of several with one content it is the active one, else the newest, as the operator takes it.
            found = next((each for each in same if each.number == self.active_number), next(iter(same), None))
        return found

    def told_numbers(self) -> str:
        """Which versions have an object."""
        if not self.versions:
            return "it has none yet"
        return f"there are {', '.join(f'v{each.number}' for each in self.versions[:20])}"

    def _numbered(self, number: int | None, otherwise: str) -> Version | None:
        if number is None:
            raise ends.Missing(otherwise)
        return next((each for each in self.versions if each.number == number), None)


def find(kubectl: Kubectl, seen: View, reach: Reach, reference: str) -> Version:
    """The version that somebody means: by its object, or if it has none, from the read API. Raises Missing."""
    found = seen.find(reference)
    number = as_number(reference)
    if found is None and number is not None and seen.versions and number > seen.versions[0].number:
        raise ends.Missing(f"{seen.name} has no {reference} yet: {seen.told_numbers()}")
    if found is None and reference == "previous" and not seen.forgets:
        raise ends.Missing(f"no version of {seen.name} was active before that may run")
    if found is None:
        from keep_operator.plugin import read_api  # noqa: PLC0415 - its means take a moment to load

        found = read_api.version(kubectl, seen, reach, reference)
    return found


def as_number(reference: str) -> int | None:
    """The number that ``3`` or ``v3`` names."""
    found = _NUMBER.fullmatch(reference)
    return None if found is None else int(found[1])


def questions(workflow: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to ask kubectl for a view."""
    selector = f"--selector={GROUP}/workflow={label(workflow)}"
    return Kubectl.asking(WORKFLOWS, workflow), Kubectl.asking(WORKFLOW_REVISIONS, selector)


def of(kubectl: Kubectl, name: str, workflow: Json | ends.Failure, revisions: Json | ends.Failure) -> View:
    """The view that the answers to `questions` make. Raises Missing."""
    if isinstance(workflow, ends.Missing):
        raise ends.Missing(f'there is no Workflow "{name}" in namespace {kubectl.namespace()}')
    for each in (workflow, revisions):
        if isinstance(each, ends.Failure):
            raise each
    assert isinstance(workflow, dict)
    assert isinstance(revisions, dict)
    lineage = (workflow.get("status") or {}).get("workflowId")
    own = (
        Version(each)
        for each in revisions["items"]
        if each["spec"]["workflowRef"]["name"] == name and lineage in (None, each["spec"]["lineageId"])
    )
    return View(workflow, tuple(sorted(own, key=lambda each: each.number, reverse=True)))


def read(kubectl: Kubectl, workflow: str) -> View:
    """A workflow and its versions. Raises Missing."""
    return of(kubectl, workflow, *kubectl.tries(*questions(workflow)))


def label(workflow: str) -> str:
    """The value of label `workflow` on its versions."""
    if len(workflow) <= _LABEL_LIMIT:
        return workflow
    from keep_operator.domain import mirror  # noqa: PLC0415 - long names are rare, and the rule is the operator's

    return mirror.label_value(workflow)


def _previous(view: View) -> int | None:
    """Where a rollback would lead, by the operator's own rule; of what has no object any more it cannot tell."""
    from keep_operator.plugin import lineage  # noqa: PLC0415 - the rules take a moment to load

    return lineage.previous(view)


def release_patch(pin: Mapping[str, Any] | None) -> Json:
    """What makes a spec insist on a version, or stop doing so."""
    return {"spec": {"release": {"pin": None if pin is None else dict(pin)}}}
