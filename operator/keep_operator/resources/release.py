"""How a new version of a workflow takes over: strategy, approval, checklist, automatic rollback, pin, tags.

Docstrings and descriptions of the models are what ``kubectl explain`` shows.
"""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from keep_operator.resources.parts import CHECKLIST_LIMIT, Approval, Checklist
from keep_operator.resources.rules import Rule, Ruled
from keep_operator.resources.shapes import (
    ContentHash,
    Duration,
    Items,
    Note,
    RevisionNumber,
    Shape,
    Tag,
    as_map,
    as_set,
    distinct_entries,
)

Percent = Annotated[int, Field(ge=0, le=100)]

# Words that mean a version by its state; as a tag one of them would hide what it means.
RESERVED_TAGS: Final = ("latest", "active", "desired", "stable", "canary")


class Pause(Shape):
    """A wait between two steps."""

    duration: Duration | None = Field(
        default=None, description="How long, such as `10m`. Unset: until somebody decides `Promote` or `Abort`."
    )


class Analysis(Shape):
    """Compares the runs of the new version with those of the stable one over the same time."""

    min_runs: int = Field(
        ge=1, le=1_000_000, description="So many runs of the new version are needed. Fewer are no success."
    )
    window: Duration = Field(description="The time over which runs are counted, such as `30m`.")
    max_failure_rate_percent: Percent = Field(
        description="The analysis fails when more than this part of the new version's runs fail."
    )
    max_p95_duration: Duration | None = Field(
        default=None, description="The analysis fails when one in twenty runs takes longer than this."
    )
    max_error_rate_delta_percent: Percent | None = Field(
        default=None,
        description="The analysis fails when the new version's failure rate is higher than the stable one's by more "
        "than this many percentage points.",
    )
    failure_limit: int = Field(
        default=0, ge=0, le=100, description="So many failed measurements are forgiven before the analysis fails."
    )


class CanaryStep(Ruled):
    """One step of a canary: exactly one of the three."""

    set_weight: int | None = Field(
        default=None, ge=1, le=100, description="From here on so many percent of the runs go to the new version."
    )
    pause: Pause | None = Field(default=None, description="Waits, for a time or for a person.")
    analysis: Analysis | None = Field(default=None, description="Goes on only if the new version does well.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.setWeight), has(self.pause), has(self.analysis)].exists_one(x, x)",
            "exactly one of setWeight, pause and analysis must be given",
            lambda self: [self.set_weight, self.pause, self.analysis].count(None) == 2,
        ),
    )


class RollbackWindow(Shape):
    """Which way back needs no canary."""

    revisions: int = Field(
        default=0, ge=0, le=100, description="Going back to one of so many last active versions skips the steps."
    )


class Canary(Ruled):
    """Gives a new version a growing part of the runs, step by step."""

    steps: Items[CanaryStep] = Field(
        min_length=1,
        max_length=20,
        description="What happens one after the other; after the last step the new version gets all runs.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    sticky_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="A CEL expression over `inputs`, `event` (or `alert`), `trigger` and `fingerprint`: equal keys get the same "
        "version. Where it has no answer for a run, and unset: the fingerprint of the alert.",
    )
    rollback_window: RollbackWindow = Field(
        default_factory=RollbackWindow, description="Which way back needs no canary."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.filter(s, has(s.setWeight)).map(s, s.setWeight).isSorted()",
            "setWeight must not fall from one step to the next",
            lambda steps: (weights := [step.set_weight for step in steps if step.set_weight]) == sorted(weights),
            on="steps",
        ),
    )


class Strategy(Ruled):
    """How runs pass from the active version to a new one."""

    type: Literal["AllAtOnce", "Canary", "Manual"] = Field(
        default="AllAtOnce",
        description="`AllAtOnce`: the new version takes all runs as soon as it may. `Canary`: step by step. `Manual`: "
        "it waits for the decision `Deploy`.",
    )
    canary: Canary | None = Field(default=None, description="The steps; needed with type `Canary`, and only there.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.type == 'Canary') == has(self.canary)",
            "canary is needed with type Canary, and not allowed with any other",
            lambda self: (self.type == "Canary") == (self.canary is not None),
            field="canary",
        ),
    )


class AutoRollback(Ruled):
    """Takes a version back by itself when too many of its runs fail, also after it has got all of them."""

    enabled: bool = Field(default=False, description="Whether it watches.")
    window: Duration | None = Field(
        default=None, description="So long after a version became active its runs are watched, such as `1h`."
    )
    min_runs: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Nothing is taken back before so many runs have ended."
    )
    max_failure_rate_percent: int | None = Field(
        default=None, ge=1, le=100, description="The version is taken back when more than this part of its runs fail."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!self.enabled || (has(self.window) && has(self.minRuns) && has(self.maxFailureRatePercent))",
            "window, minRuns and maxFailureRatePercent are needed where enabled is true",
            lambda self: not self.enabled or None not in (self.window, self.min_runs, self.max_failure_rate_percent),
        ),
    )


class Pin(Ruled):
    """The one version that runs whatever the definition says: exactly one of the three ways to name it."""

    revision: RevisionNumber | None = Field(
        default=None, description="By its number. Numbers differ from cluster to cluster."
    )
    content_hash: ContentHash | None = Field(default=None, description="By the hash of its content.")
    tag: Tag | None = Field(default=None, description="By a tag.")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.revision), has(self.contentHash), has(self.tag)].exists_one(x, x)",
            "exactly one of revision, contentHash and tag must be given",
            lambda self: [self.revision, self.content_hash, self.tag].count(None) == 2,
        ),
    )


class Release(Ruled):
    """How a new version of the definition takes over."""

    strategy: Strategy = Field(
        default_factory=Strategy, description="How runs pass from the active version to a new one."
    )
    approval: Approval | None = Field(
        default=None, description="Which new versions need the approval of peers. What is unset the Tenant says."
    )
    checklist: Checklist = Field(
        default=(),
        max_length=CHECKLIST_LIMIT,
        description="What must be done or found true before a version is deployed.",
        json_schema_extra=as_map("id"),
    )
    auto_rollback: AutoRollback = Field(
        default_factory=AutoRollback, description="Takes a version back by itself when too many of its runs fail."
    )
    ready_when: Literal["Deployed", "Available"] = Field(
        default="Deployed",
        description="What `Ready` waits for: `Deployed`, that the newest version is active; `Available`, that any "
        "version serves, so that tools do not hang while a person is asked.",
    )
    pin: Pin | None = Field(
        default=None, description="The one version that runs whatever the definition says: a rollback by Git."
    )
    tags: Annotated[Items[Tag], AfterValidator(distinct_entries())] = Field(
        default=(),
        max_length=16,
        description="Names for the version that is made from this spec, unique in the workflow.",
        json_schema_extra=as_set(),
    )
    change_note: Note | None = Field(
        default=None, description="Why the definition was changed. Unset: made from the difference."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!self.exists(t, t in {list(RESERVED_TAGS)})",
            f"{', '.join(RESERVED_TAGS)} are reserved; choose other tags",
            lambda tags: not set(tags) & set(RESERVED_TAGS),
            on="tags",
        ),
    )
