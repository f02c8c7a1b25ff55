"""The sentences of a plan, for terminals and for pull requests alike."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from keep_operator.domain import forecast
from keep_operator.plugin import output
from keep_operator.plugin.kubectl import Json

_SETTERS: Final = {
    "Workflow": "spec.release.approval",
    "TenantDefault": "the Tenant's defaults",
    "TenantFloor": "the Tenant's floor",
}
_COUNTED: Final = {"Faulty": "faulty", "Held": "held", "Changes": "to change", "Unchanged": "unchanged"}
_SHOWN: Final = 6


def headline(each: Json) -> str:
    """What would happen to a Workflow, in a few words."""
    match each["outcome"], each["created"]:
        case "Faulty", _:
            return "is faulty"
        case "Unchanged", _:
            return "unchanged"
        case "Held", True:
            return "would be created, and held"
        case "Held", False:
            return "would change, and be held"
        case _, True:
            return "would be created"
        case _:
            return "would change"


def summary(told: Json) -> str:
    """How many Workflows come to what."""
    number = len(told["workflows"])
    if not number:
        return "There is no Workflow in these files." if not told["faults"] else "No Workflow could be planned."
    found = Counter(each["outcome"] for each in told["workflows"])
    parts = [f"{found[outcome]} {word}" for outcome, word in _COUNTED.items() if found[outcome]]
    return f"{output.count(number, 'Workflow')}: {', '.join(parts)}."


def not_planned(told: Json) -> str:
    """The objects of other kinds, by kind."""
    kinds: dict[str, list[str]] = {}
    for each in told["notPlanned"]:
        kinds.setdefault(each["kind"], []).append(each["name"])
    return "; ".join(f"{kind} {_listed(names)}" for kind, names in kinds.items())


def fault(found: Json) -> str:
    """A fault, with where it is."""
    place = f"line {found['line']}: " if "line" in found else ""
    path = f"{found['path']}: " if found["path"] else ""
    return f"{place}{path}{found['message']} ({found['reason']})"


def facts(each: Json) -> Iterator[str]:
    """What would be stored and made."""
    if each["changed"]:
        yield f"Changes {_listed([*dict.fromkeys(map(_near, each['changed']))])}"
    if each["definition"] is not None:
        parts = [f"{part} {_listed(names)}" for part, names in each["definition"].items() if names]
        yield f"Does: {'; '.join(parts)}"
    made = each["revision"]
    if made is not None and each["faults"]:
        yield f"New version {name(made)}, which can never run"
    elif made is not None:
        same = f", the content of v{made['sameContentAs']} again" if made["sameContentAs"] else ""
        yield f"New version {name(made)}{same}"
    elif each["outcome"] not in ("Unchanged", "Faulty"):
        early = any(gate["gate"] in ("Tenant", "Definition", "Record") for gate in each["held"])
        yield "No version is made yet" if early else "No new version: what it does stays the same"


def compared(found: Json) -> str:
    """What a difference is against."""
    known = "which is active" if found["from"]["state"] == "active" else "the newest"
    unknown = ": what that does is not known here" if found.get("unknown") else ":"
    return f"Against {name(found['from'])}, {known}{unknown}"


def way(each: Json) -> Iterator[str]:
    """How the version would take over, and what is active then."""
    release = each["release"]
    if each["outcome"] == "Faulty":
        if each["active"] is not None:
            yield f"{name(each['active'])} stays active"
        return
    if release is None or each["outcome"] == "Unchanged":
        return
    concerned = each["revision"] is not None or bool(each["held"])
    if concerned:
        yield approval(release["approval"], tenant_read=each["tenantRead"])
        yield from _checklist(release["checklist"])
        yield from _steps(release)
    if release["canary"] is not None:
        yield from _canary(release["canary"])
    if release["endsHold"]:
        yield "The rollback in force ends"
    guard = release["autoRollback"]
    if guard is not None and concerned:
        window = forecast.lasting(timedelta(seconds=guard["windowSeconds"]))
        yield (
            f"Automatic rollback: within {window}, if of {guard['minRuns']} runs or more over "
            f"{guard['maxFailureRatePercent']} % fail"
        )
    yield _result(each)


def approval(found: Json, *, tenant_read: bool) -> str:
    """Whether approval is asked for, by whom, why, and whose."""
    if not tenant_read:
        return f"{_approval(found)}. What the Tenant asks for is not known here"
    return _approval(found)


def _approval(found: Json) -> str:
    if found["required"] == "Never":
        return "Approval: not asked for"
    asked = f"{found['required']}, by {_SETTERS.get(found['setBy'] or '', 'nobody')}"
    important = found["important"]
    if not found["needed"]:
        why = {"CarriedOver": "carried over from the same content"}.get(found["status"] or "")
        if why is None:
            unimportant = found["required"] == "ImportantOnly" and not (important["paths"] or important["marked"])
            why = "nothing important changes" if unimportant else "it has what it needs"
        return f"Approval: not needed ({asked}; {why})"
    reasons = []
    if found["required"] == "ImportantOnly":
        if important["paths"]:
            reasons.append(f"importantPaths {_listed(important['paths'])} touched")
        if important["marked"]:
            reasons.append("marked by annotation keep-operator.dev/important")
    people = output.count(found["minApprovals"], "approval")
    who = ", and ".join(filter(None, map(_approvers, found["approvers"]))) or "anybody who may approve"
    self_approval = ", not the author" if found["forbidSelfApproval"] else ""
    return f"Approval: {people} from {who}{self_approval} ({'; '.join([asked, *reasons])})"


def _approvers(each: Json) -> str:
    named = [*each["users"], *(f"group {group}" for group in each["groups"])]
    return " or ".join(filter(None, (", ".join(named[:-1]), *named[-1:])))


def _checklist(items: list[Json]) -> Iterator[str]:
    for each in items:
        how = f"by itself, once {each['auto']}" if each["auto"] else "by a person"
        mark = "x" if each["done"] else " "
        needed = "" if each["required"] else " (not required)"
        why = f" ({each['message']})" if each["message"] else ""
        yield f"Checklist [{mark}] {each['id']}: {each['title']}{needed}, {how}{why}"


def _steps(release: Json) -> Iterator[str]:
    if release["skipsSteps"] is not None:
        yield f"No canary: {release['skipsSteps'][0].lower()}{release['skipsSteps'][1:]}"
    elif release["steps"]:
        yield f"Takes over as a canary: {'; '.join(each['words'] for each in release['steps'])}; then all runs"
        if release["stickyKey"]:
            yield f"Runs are told apart by {release['stickyKey']}, those for which it has no answer by their alert's fingerprint"
    elif release["strategy"] == "Manual":
        yield "Takes over when somebody decides so: kubectl keep deploy"
    else:
        yield "Takes over at once"


def _canary(found: Json) -> Iterator[str]:
    words = {"Restarts": "begins anew", "Ends": "ends", "GoesOn": "goes on"}[found["becomes"]]
    yield f"The canary of v{found['revision']}, with {found['weight']} % of the runs, {words}"


def _result(each: Json) -> str:
    """Which version runs in the end, as far as nothing else happens."""
    active, made = each["then"]["active"], each["revision"]
    if active is None:
        return "Nothing is active yet"
    if made is not None and active["number"] == made["number"]:
        return f"Then v{active['number']} is active"
    return f"{name(active)} stays active" + ("" if each["held"] else " meanwhile" if made is not None else "")


def name(revision: Json) -> str:
    """A version as people know it."""
    return f"v{revision['number']} ({revision['contentHash'][:8]})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _near(path: str) -> str:
    """A path of a spec as people speak of it: `release.autoRollback`, and not what differs in there."""
    parts = path.split(".")
    return ".".join(parts[:2]) if parts[0] != "metadata" else path
