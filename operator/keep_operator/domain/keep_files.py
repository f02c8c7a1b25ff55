"""Keep's own files and our manifests, one into the other without a loss.

::

    workflow file                                ──► Workflow
    provider file, KEEP_PROVIDERS, providers.yaml ──► Provider, and a Secret with its credentials
    Workflow (and ConfigMap)                     ──► workflow file
    Provider and Secret                          ──► provider file

What a manifest has no field for is kept in an annotation. Not kept are comments, the layout, the order of keys, and the
difference between a missing and an empty ``authentication``.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from keep_operator.domain import catalogue, comparison
from keep_operator.domain.grammar import dialect, faults, values, workflow
from keep_operator.domain.grammar.faults import Fault, Reason
from keep_operator.resources import provider as provider_reader
from keep_operator.resources.kinds import API_VERSION
from keep_operator.resources.shapes import Invalid, Violation

# What of Keep's provider file our kind has no field for, as JSON.
EXTRAS: Final = "keep-operator.dev/keep-file"
# Keys of a workflow, none of which a provider has.
_OF_WORKFLOWS: Final = frozenset({*workflow.WRAPPERS, "steps", "actions", "triggers"})
_OF_PROVIDERS: Final = frozenset({"name", "type", "authentication"})
# In the annotation: what stands beside type and authentication; credentials that are no text, and so are JSON in the
# Secret; and credentials that are null, and so are not in it.
_BESIDE, _AS_JSON, _NULL = "beside", "credentialsAsJson", "credentialsNull"
# Characters; leaves room for what is put behind it within the 253 of a name.
_NAME_LIMIT: Final = 200
_DATA_KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
# Filled in by Keep's own provisioning, and by nothing else.
_FROM_ENVIRONMENT: Final = re.compile(r"\$\(.*\)")
# What a credential may be in a manifest: Keep fills it in from its own environment, each time it is used.
_TEMPLATE: Final = re.compile(r"\{\{\s*env\.[A-Za-z_][A-Za-z0-9_]*\s*\}\}")


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault or a warning, and the file, or the object, that it is about."""

    source: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.source}: {self.fault}"


@dataclass(frozen=True, slots=True)
class Import:
    """``manifests`` in the order of the files, a Secret before its Provider. What has faults would be refused when applied.

    Secrets hold credentials in clear text.
    """

    manifests: tuple[Mapping[str, Any], ...] = field(repr=False)
    faults: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Export:
    """``files`` by name; those of providers hold credentials in clear text. What has a fault has no file."""

    files: Mapping[str, str] = field(repr=False)
    faults: tuple[Finding, ...]


@dataclass(slots=True)
class _Gathered:
    manifests: list[Mapping[str, Any]] = field(default_factory=list)
    faults: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    names: set[tuple[str, str]] = field(default_factory=set)


def read(files: Mapping[str, str], *, namespace: str | None = None, tenant: str | None = None) -> Import:
    """Manifests for the texts of Keep's files, by file name.

    Each file is a workflow, a provider, or a map of providers by name, whatever it is called. Objects go into
    ``namespace``, and belong to ``tenant``; None: what kubectl's context says, and the default tenant.
    """
    gathered = _Gathered()
    for file, text in files.items():
        try:
            document = dialect.load(text)
        except dialect.Malformed as error:
            gathered.faults += [Finding(file, fault) for fault in error.faults]
            continue
        if _is_workflow(document.value):
            _read_workflow(file, text, document, gathered)
        else:
            _read_providers(file, document, gathered)
    manifests = tuple(_placed(manifest, namespace, tenant) for manifest in gathered.manifests)
    return Import(manifests, tuple(gathered.faults), tuple(gathered.warnings))


def write(manifests: Iterable[Mapping[str, Any]]) -> Export:
    """Keep's files for objects as the API server gives them, or as ``read`` made them; other kinds are passed over.

    The ConfigMaps and Secrets that they refer to have to be among them.
    """
    objects = {_key(each): each for each in manifests}
    files: dict[str, str] = {}
    found: list[Finding] = []
    for (kind, namespace, name), each in sorted(objects.items()):
        if kind not in ("Workflow", "Provider") or each.get("apiVersion") != API_VERSION:
            continue
        try:
            document = (_write_workflow if kind == "Workflow" else _write_provider)(each, namespace, objects)
        except _Missing as error:
            found.append(Finding(f"{kind} {namespace}/{name}".replace(" /", " "), Fault(error.path, str(error))))
            continue
        file = f"{kind.lower()}s/{name}.yaml"
        files[f"{namespace}/{file}" if file in files else file] = dialect.dump(document)
    return Export(MappingProxyType(files), tuple(found))


def to_yaml(manifests: Iterable[Mapping[str, Any]]) -> str:
    """The manifests as one text that ``kubectl apply -f`` takes."""
    return "---\n".join(dialect.dump(manifest) for manifest in manifests)


def object_name(name: str) -> str:
    """A name that Kubernetes takes, as like the given one as can be."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.casefold())[:_NAME_LIMIT].strip("-")
    return plain or f"unnamed-{_short_hash(name)}"


class _Missing(Exception):
    """An object refers to something that was not given."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def _is_workflow(document: object) -> bool:
    """A provider has its type and authentication at the top; a map of providers is all maps that have them."""
    if not isinstance(document, dict) or not document:
        return True
    if _OF_WORKFLOWS & document.keys():
        return True
    return not _OF_PROVIDERS & document.keys() and not all(map(_is_provider, document.values()))


def _is_provider(value: object) -> bool:
    return isinstance(value, dict) and bool({"type", "authentication"} & value.keys())


def _read_workflow(file: str, text: str, document: dialect.Document, gathered: _Gathered) -> None:
    judged = workflow.read(text)
    gathered.faults += [Finding(file, fault) for fault in judged.faults]
    gathered.warnings += [Finding(file, fault) for fault in judged.warnings]
    if judged.untold:
        gathered.faults.append(Finding(file, Fault("", f"has {judged.untold} more faults")))
    if judged.definition is None:
        return
    called = next((judged.definition[key] for key in ("id", "name") if judged.definition.get(key)), _stem(file))
    name = _free_name("Workflow", str(called), gathered)
    gathered.manifests.append(_manifest("Workflow", name, {"definition": judged.definition}))


def _read_providers(file: str, document: dialect.Document, gathered: _Gathered) -> None:
    content: dict[str, Any] = document.value
    if _OF_PROVIDERS & content.keys():
        _read_provider(file, "", content, content.get("name"), document, gathered)
        return
    for name, each in content.items():
        # The name stands before the map here; one that stands in it too is not looked at by Keep.
        _read_provider(file, faults.join("", name), {**each, "name": name}, name, document, gathered)


def _read_provider(
    file: str, path: str, content: dict[str, Any], name: object, document: dialect.Document, gathered: _Gathered
) -> None:
    def at(place: str, message: str, reason: Reason = Reason.SCHEMA_ERROR) -> Finding:
        where = f"{path}.{place}" if path and place else path or place
        return Finding(file, Fault(where, message, reason, document.line(where)))

    type_name, authentication = content.get("type"), content.get("authentication")
    authentication = {} if authentication is None else authentication
    if not isinstance(name, str) or not name:
        gathered.faults.append(at("name", "is required: workflows name the provider by it"))
    if not isinstance(type_name, str) or not type_name:
        gathered.faults.append(at("type", "is required: such as slack"))
    if not isinstance(authentication, dict):
        gathered.faults.append(at("authentication", "must be an object"))
    if not (isinstance(name, str) and name and isinstance(type_name, str) and isinstance(authentication, dict)):
        return
    for place, message, reason in values.check(content):
        told = at(place, message, reason or Reason.SCHEMA_ERROR)
        (gathered.warnings if reason is None else gathered.faults).append(told)
    extras = {key: value for key, value in content.items() if key not in _OF_PROVIDERS}
    for key in extras:
        gathered.warnings.append(at(key, f"has no effect here; it is kept in annotation {EXTRAS}"))
    config, credentials = _divided(type_name, authentication)
    for key, value in authentication.items():
        if isinstance(value, str) and _FROM_ENVIRONMENT.fullmatch(value):
            gathered.warnings.append(
                at(f"authentication.{key}", "is filled in by Keep's own provisioning only; put the value there")
            )
    made = _provider_manifests(_free_name("Provider", name, gathered), name, type_name, config, credentials, extras)
    gathered.manifests += made
    gathered.faults += [at("", str(fault)) for fault in _refused(made[-1])]


def _divided(type_name: str, authentication: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What may stand in a manifest, and what must not. Of what the catalogue does not know, everything must not."""
    kind = catalogue.find(type_name)
    config, credentials = {}, {}
    for key, value in authentication.items():
        known = None if kind is None else kind.fields.get(key)
        templated = isinstance(value, str) and _TEMPLATE.fullmatch(value) is not None
        if kind is not None and known is not None and (templated or not catalogue.is_credential(kind, known)):
            config[key] = value
        else:
            credentials[key] = value
    return config, credentials


def _provider_manifests(
    object_name: str,
    name: str,
    type_name: str,
    config: dict[str, Any],
    credentials: dict[str, Any],
    extras: dict[str, Any],
) -> list[Mapping[str, Any]]:
    """The Secret, if there is something secret, and the Provider."""
    spec: dict[str, Any] = {"type": type_name}
    if name != object_name:
        spec["externalName"] = name
    if config:
        spec["config"] = config
    secret_name = f"{object_name}-credentials"
    given = {key: value for key, value in credentials.items() if value is not None}
    if given:
        spec["secrets"] = [
            {"key": key, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": _data_key(key)}}} for key in given
        ]
    kept = {
        _BESIDE: extras,
        _AS_JSON: [key for key, value in given.items() if not isinstance(value, str)],
        _NULL: [key for key in credentials if key not in given],
    }
    manifest = _manifest("Provider", object_name, spec)
    if any(kept.values()):
        written = {key: value for key, value in kept.items() if value}
        manifest["metadata"]["annotations"] = {EXTRAS: json.dumps(written, ensure_ascii=False, sort_keys=True)}
    if not given:
        return [manifest]
    values = {
        _data_key(key): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in given.items()
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret_name}, "stringData": values}
    return [secret, manifest]


def _refused(manifest: Mapping[str, Any]) -> tuple[Violation, ...]:
    """Why the operator would not take this Provider."""
    spec = provider_reader.parse_spec(manifest["spec"])
    if isinstance(spec, Invalid):
        return spec.violations
    broken = provider_reader.violations(spec, manifest["metadata"]["name"])
    if not catalogue.known(spec.type):
        meant = catalogue.suggest(spec.type)
        hint = f"; did you mean {meant}?" if meant else ""
        return (*broken, Violation("spec.type", f"is no provider type of Keep{hint}"))
    return (*broken, *catalogue.faults(spec.type, spec.config or {}, [entry.key for entry in spec.secrets]))


def _write_workflow(
    manifest: Mapping[str, Any], namespace: str, objects: Mapping[tuple[str, str, str], Mapping[str, Any]]
) -> dict[str, Any]:
    spec = manifest["spec"]
    definition = spec.get("definition")
    if definition is None:
        source = spec["definitionFrom"]["configMapKeyRef"]
        config_map = objects.get(("ConfigMap", namespace, source["name"]))
        text = None if config_map is None else (config_map.get("data") or {}).get(source["key"])
        path = "spec.definitionFrom.configMapKeyRef"
        if text is None:
            raise _Missing(path, f"ConfigMap {source['name']} with key {source['key']} is not among the given objects")
        judged = workflow.read(text)
        if judged.definition is None:
            raise _Missing(path, f"ConfigMap {source['name']}: {judged}")
        definition = judged.definition
    return {"workflow": comparison.ordered(definition)}


def _write_provider(
    manifest: Mapping[str, Any], namespace: str, objects: Mapping[tuple[str, str, str], Mapping[str, Any]]
) -> dict[str, Any]:
    spec, metadata = manifest["spec"], manifest["metadata"]
    kept = _kept((metadata.get("annotations") or {}).get(EXTRAS))
    authentication = {**(spec.get("config") or {}), **dict.fromkeys(kept.get(_NULL, ()))}
    for index, entry in enumerate(spec.get("secrets") or ()):
        source = entry["valueFrom"]["secretKeyRef"]
        value = _secret_value(objects.get(("Secret", namespace, source["name"])), source["key"])
        path = f"spec.secrets[{index}]"
        if value is None:
            message = f"Secret {source['name']} with key {source['key']} is not among the given objects"
            raise _Missing(path, message)
        try:
            authentication[entry["key"]] = json.loads(value) if entry["key"] in kept.get(_AS_JSON, ()) else value
        except ValueError:
            raise _Missing(
                path, f"Secret {source['name']} does not hold JSON in key {source['key']} any more"
            ) from None
    name = spec.get("externalName") or metadata["name"]
    return {"name": name, "type": spec["type"], "authentication": authentication, **kept.get(_BESIDE, {})}


def _kept(annotation: str | None) -> dict[str, Any]:
    """What an import put into the annotation; nothing of it may be other than it was written."""
    try:
        kept = json.loads(annotation or "{}")
        shape = {_BESIDE: dict, _AS_JSON: list, _NULL: list}
        if isinstance(kept, dict) and all(isinstance(value, shape.get(key, ())) for key, value in kept.items()):
            return kept
    except ValueError:
        pass
    raise _Missing("metadata.annotations", f"{EXTRAS} is not as an import writes it; remove it")


def _secret_value(secret: Mapping[str, Any] | None, key: str) -> str | None:
    """As the API server keeps it, in base64, or as it was applied."""
    if secret is None:
        return None
    plain = (secret.get("stringData") or {}).get(key)
    encoded = (secret.get("data") or {}).get(key)
    if plain is not None or encoded is None:
        return plain
    return base64.b64decode(encoded).decode("utf-8", "surrogateescape")


def _key(manifest: Mapping[str, Any]) -> tuple[str, str, str]:
    metadata = manifest.get("metadata") or {}
    return str(manifest.get("kind")), metadata.get("namespace") or "", str(metadata.get("name"))


def _manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _placed(manifest: Mapping[str, Any], namespace: str | None, tenant: str | None) -> Mapping[str, Any]:
    """With its namespace and its tenant."""
    placed = dict(manifest)
    if namespace is not None:
        placed["metadata"] = {"name": manifest["metadata"]["name"], "namespace": namespace, **manifest["metadata"]}
    if tenant is not None and "spec" in manifest:
        placed["spec"] = {"tenantRef": {"name": tenant}, **manifest["spec"]}
    return placed


def _free_name(kind: str, wanted: str, gathered: _Gathered) -> str:
    """An object's name that no other one of this import has; of two alike the second gets a hash of what it is called."""
    name = object_name(wanted)
    if (kind, name) in gathered.names:
        name = f"{name}-{_short_hash(wanted)}"
    number = 2
    while (kind, name) in gathered.names:
        name = f"{object_name(wanted)}-{_short_hash(wanted)}-{number}"
        number += 1
    gathered.names.add((kind, name))
    return name


def _data_key(name: str) -> str:
    """The key of a credential in the Secret: its field's name, where Kubernetes takes that."""
    return name if _DATA_KEY.fullmatch(name) else f"field-{_short_hash(name)}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _stem(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2].partition(".")[0]
