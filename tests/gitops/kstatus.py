"""How Flux, kpt and others that read only conditions see an object: kstatus, as far as it is about custom resources."""

from collections.abc import Mapping
from typing import Any


def status(obj: Mapping[str, Any]) -> str:
    """`Terminating`, `InProgress`, `Failed` or `Current`; an object without any status counts as `Current`."""
    metadata, told = obj["metadata"], obj.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if told.get("observedGeneration", metadata.get("generation")) != metadata.get("generation"):
        return "InProgress"
    found = {condition["type"]: condition["status"] for condition in told.get("conditions") or ()}
    if found.get("Reconciling") == "True":
        return "InProgress"
    if found.get("Stalled") == "True":
        return "Failed"
    return "Current" if found.get("Ready", "True") == "True" else "InProgress"
