"""What the definition in a Workflow's spec, or in the ConfigMap that it names, asks for; and whether that is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from keep_operator.domain import abilities, conditions, revision
from keep_operator.domain.conditions import Finding, Truth
from keep_operator.domain.grammar import faults, workflow
from keep_operator.domain.grammar.faults import Fault, Reason
from keep_operator.domain.grammar.workflow import Judgement, ProviderUse, Workflow
from keep_operator.domain.history import Flaw, Lineage
from keep_operator.resources import free

# Of these there can be no revision: there is no JSON to hash, or no object that could hold it.
_NO_CONTENT = (Reason.PARSE_ERROR, Reason.TOO_LARGE)


@dataclass(frozen=True, slots=True)
class Missing:
    """The ConfigMap, or the key in it, is not there; the sentence says which."""

    message: str


@dataclass(frozen=True, slots=True)
class Desired:
    """A definition of which a revision can be made; one with a ``flaw`` can never run (A-REV-6).

    ``hashes`` are those of its behaviour by hash version. ``presentation`` are the keys that make no revision, and
    ``uses`` the providers that must be there.
    """

    content: Mapping[str, Any]
    presentation: Mapping[str, Any]
    hashes: Mapping[int, str]
    flaw: Flaw | None = None
    uses: tuple[ProviderUse, ...] = ()

    @property
    def disabled(self) -> bool:
        """Whether the definition itself says that nothing starts it."""
        return workflow.is_disabled(self.presentation)

    def hash_in(self, lineage: Lineage) -> str:
        """Its hash as the newest revision was hashed, if they are equal so; else as new revisions are.

        So that a new way of hashing does not make a revision of each definition there is (A-REV-1).
        """
        latest = lineage.latest
        if latest is not None and self.hashes.get(latest.hash_version) == latest.content_hash:
            return latest.content_hash
        return self.hashes[revision.HASH_VERSION]


@dataclass(frozen=True, slots=True)
class ProviderSight:
    """What a Workflow sees of a Provider. ``serving``: it has its record, though it may not be Ready at this moment."""

    type: str
    ready: bool
    serving: bool


Wanted: TypeAlias = Desired | Missing | Flaw
"""A Flaw: there is something, but nothing that a revision could be made of."""


def read(definition: Mapping[str, Any]) -> Desired | Flaw:
    """The definition as the API server stored it."""
    return _desired(workflow.judge(definition))


def read_text(text: str) -> Desired | Flaw:
    """The definition in a ConfigMap: YAML, with or without what Keep's files put around it."""
    return _desired(workflow.read(text))


def _desired(judged: Judgement) -> Desired | Flaw:
    flaw = _unsupported(judged.workflow) if judged.reason is None else Flaw(str(judged.reason), str(judged))
    if judged.definition is None or judged.reason in _NO_CONTENT:
        return flaw or Flaw(str(Reason.PARSE_ERROR), "There is no definition")
    definition = judged.definition
    if len(definition) > free.KEYS_LIMIT:
        return Flaw(str(Reason.TOO_LARGE), f"has {len(definition)} keys; at most {free.KEYS_LIMIT} are taken")
    try:
        hashes = {version: revision.content_hash(definition, version) for version in revision.PRESENTATIONAL}
    except revision.Unhashable as error:
        return Flaw(str(Reason.PARSE_ERROR), str(error))
    return Desired(
        content=revision.behaviour(definition),
        presentation=revision.presentation(definition),
        hashes=hashes,
        flaw=flaw,
        uses=() if judged.workflow is None else judged.workflow.providers,
    )


def _unsupported(definition: Workflow | None) -> Flaw | None:
    """What the runtime cannot carry out. Every Tenant has the built-in one: others refuse to be Ready."""
    if definition is None:
        return None
    found = [
        Fault(f"{step.path}.provider.type", why, Reason.ACTION_NOT_SUPPORTED)
        for step in definition.all_steps
        # A stored action brings its own type.
        if step.type and (why := abilities.fault(step.type, step.kind, step.subtype, step.parameters)) is not None
    ]
    return Flaw(str(Reason.ACTION_NOT_SUPPORTED), faults.cut(found)) if found else None


def judge(wanted: Wanted | None) -> Finding:
    """The condition ``DefinitionValid``; None: nobody has looked yet."""
    match wanted:
        case None:
            return conditions.unknown(
                "DefinitionValid", "ConfigMapNotFound", "The ConfigMap has not been looked at yet"
            )
        case Missing(message):
            return conditions.unknown("DefinitionValid", "ConfigMapNotFound", message)
        case Desired(flaw=None):
            return conditions.true("DefinitionValid", "Valid", "The definition can run")
        case Desired(flaw=flaw):
            assert flaw is not None
        case _:
            flaw = wanted
    return Finding("DefinitionValid", Truth.FALSE, flaw.reason, flaw.message)


def judge_providers(
    wanted: Desired, providers: Mapping[str, ProviderSight], *, policy: Literal["Wait", "Warn"], serves: bool
) -> Finding:
    """The condition ``ProvidersReady``: whether all Providers are there that the definition names.

    ``serves``: it is active already, and then it is enough that they serve; it must not flap with them (A-DEP-8).
    """
    wrong: list[str] = []
    absent: list[str] = []
    for use in wanted.uses:
        sight = providers.get(use.name)
        if sight is None or not (sight.ready or (serves and sight.serving)):
            absent.append(use.name)
        elif sight.type != use.type:
            wrong.append(f'{use.paths[0]}: Provider "{use.name}" is of type {sight.type}, not {use.type}')
    if wrong:
        return conditions.false("ProvidersReady", "ProviderTypeMismatch", "; ".join(wrong))
    names = ", ".join(dict.fromkeys(absent))
    if absent and policy == "Warn":
        return conditions.true(
            "ProvidersReady", "ProvidersIgnored", f"Not waited for, as dependencyPolicy says: {names}"
        )
    if absent:
        return conditions.unknown("ProvidersReady", "ProvidersNotReady", f"Waiting for Provider {names}")
    count = len({use.name for use in wanted.uses})
    return conditions.true(
        "ProvidersReady", "ProvidersReady", f"{count} Ready" if count else "The definition names no Provider"
    )
