"""The definitions that Workflows ask for: from the spec, or from a ConfigMap that is read when its version is new.

Judging one costs milliseconds, and a reconcile looks several times: what came of it is kept for a while. One ConfigMap may
have the files of many Workflows, which all look when it comes: it is read once for all of them.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, TypeVar

from keep_operator.cluster.client import Cluster
from keep_operator.cluster.watch import MetadataWatch
from keep_operator.domain import desired
from keep_operator.domain.desired import Missing, Wanted
from keep_operator.resources.kinds import CONFIG_MAPS
from keep_operator.resources.objects import Object
from keep_operator.resources.workflow import ConfigMapKeyRef, WorkflowSpec

# Definitions kept between looks; more than reconciles overlap, no matter how many objects exist.
REMEMBERED: Final = 256
# ConfigMaps kept whole, each of up to 1 MiB, for the other Workflows that name them; these look within seconds.
FILES: Final = 8
# Who reads a ConfigMap has whoever asks for the same one wait; by chance also for others, and half as many as reconcile do not.
TURNS: Final = 16

V = TypeVar("V")


class Definitions:
    """Reads what specs ask for; ``watch`` knows the ConfigMaps that there are."""

    def __init__(self, cluster: Cluster, watch: MetadataWatch) -> None:
        self._cluster = cluster
        self._watch = watch
        self._judged: OrderedDict[Hashable, Wanted] = OrderedDict()
        self._files: OrderedDict[tuple[str, str], Mapping[str, Any]] = OrderedDict()
        self._turns = tuple(asyncio.Lock() for _ in range(TURNS))

    async def wanted(self, obj: Object[WorkflowSpec], spec: WorkflowSpec) -> Wanted:
        """What the spec asks for. Raises Unavailable when the API server does not answer; safe to repeat."""
        if spec.definition is not None:
            definition = spec.definition
            return self._judge((obj.uid, obj.generation), lambda: desired.read(definition))
        assert spec.definition_from is not None  # since the spec has one of the two
        return await self._from_config_map(obj.key.namespace, spec.definition_from.config_map_key_ref)

    async def _from_config_map(self, namespace: str, ref: ConfigMapKeyRef) -> Wanted:
        uid, version = self._watch.uid(namespace, ref.name), self._watch.version(namespace, ref.name)
        if uid is None or version is None:
            return Missing(f"Waiting for ConfigMap {ref.name}")
        if (known := self._judged.get((uid, ref.key, version))) is not None:
            self._judged.move_to_end((uid, ref.key, version))
            return known
        async with self._turns[hash((namespace, ref.name)) % TURNS]:
            raw = self._files.get((uid, version)) or await self._read(namespace, ref.name)
        if raw is None:
            return Missing(f"Waiting for ConfigMap {ref.name}")
        text = (raw.get("data") or {}).get(ref.key)
        if text is None:
            return Missing(f"Waiting for key {ref.key} in the data of ConfigMap {ref.name}")
        made_of = (raw["metadata"]["uid"], ref.key, raw["metadata"]["resourceVersion"])
        return self._judge(made_of, lambda: desired.read_text(text))

    async def _read(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        raw = await self._cluster.get(CONFIG_MAPS, namespace, name)
        if raw is not None:
            _keep(self._files, (raw["metadata"]["uid"], raw["metadata"]["resourceVersion"]), raw, FILES)
        return raw

    def _judge(self, made_of: Hashable, read: Callable[[], Wanted]) -> Wanted:
        known = self._judged.get(made_of)
        return _keep(self._judged, made_of, read() if known is None else known, REMEMBERED)


def _keep(kept: OrderedDict[Any, V], key: Hashable, value: V, most: int) -> V:
    """Keep a value as the newest; the one that was asked for longest ago goes."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
    return value
