"""What a kubelet makes of a pod's spec: command, environment, user and files; what cannot be had is an error by name.

Reads the API server by a function that it is given, and starts nothing.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from manifests import Json

ACCOUNT_FOLDER: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
Read = Callable[[str], Json | None]
"""The object at a path of the API, or None."""
Token = Callable[[Json], str]
"""A token of the pod's account, by the fields of a projected one."""


class Unresolved(Exception):
    """The pod cannot be started as it is; kubelet's reason and a message that names what is missing."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Image:
    """What the chart needs to know of an image."""

    user: int
    group: int
    entry_point: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def image_of(dockerfile: str) -> Image:
    """The image that the last stage of a Dockerfile makes."""
    lines = dict(re.findall(r"(?m)^(USER|ENTRYPOINT|CMD|ENV) ((?:.*\\\n)*.*)$", dockerfile.rpartition("\nFROM ")[2]))
    user, _, group = lines["USER"].partition(":")
    return Image(
        user=int(user),
        group=int(group),
        entry_point=tuple(json.loads(lines["ENTRYPOINT"])),
        arguments=tuple(json.loads(lines["CMD"])),
        environment=dict(each.split("=", 1) for each in lines["ENV"].replace("\\\n", " ").split()),
    )


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod as the API server has it, and what its node asks the server for."""

    raw: Json
    read: Read
    token: Token

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.raw["metadata"]["namespace"])

    @property
    def account(self) -> str:
        return str(self.raw["spec"].get("serviceAccountName") or "default")

    @property
    def container(self) -> Json:
        """Its container; pods of several would have to share their network, which this node cannot do."""
        spec = self.raw["spec"]
        if len(spec["containers"]) != 1 or spec.get("initContainers"):
            raise Unresolved("this node runs pods of one container only")
        container: Json = spec["containers"][0]
        return container

    # -- who ------------------------------------------------------------------------------------------------------

    def user(self, image: Image) -> tuple[int, int]:
        """User and group that the container runs as."""
        ours, pods = self.container.get("securityContext") or {}, self.raw["spec"].get("securityContext") or {}
        if (ours.get("capabilities") or {}).get("add") or ours.get("privileged"):
            raise Unresolved("this node grants no capabilities")
        user = int(ours.get("runAsUser", pods.get("runAsUser", image.user)))
        if user == 0 and ours.get("runAsNonRoot", pods.get("runAsNonRoot")):
            raise Unresolved("container has runAsNonRoot and image will run as root")
        return user, int(ours.get("runAsGroup", pods.get("runAsGroup", image.group)))

    # -- what -----------------------------------------------------------------------------------------------------

    def command(self, image: Image, environment: Mapping[str, str]) -> list[str]:
        """Program and arguments."""
        container = self.container
        command, args = container.get("command"), container.get("args")
        first = command if command else image.entry_point
        then = args if args is not None else ([] if command else image.arguments)
        return [expanded(word, environment) for word in (*first, *then)]

    def environment(self, image: Image) -> dict[str, str]:
        """Every variable: the image's, those of services, then what the container says, the later ones first."""
        container = self.container
        found = {**image.environment, "HOSTNAME": self.name, **dict(self._services())}
        for source in container.get("envFrom") or ():
            for kind, plural in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
                if (ref := source.get(kind)) is not None:
                    data = self._data(plural, ref["name"], bool(ref.get("optional")))
                    found |= {source.get("prefix", "") + key: content.decode() for key, content in data.items()}
        for each in container.get("env") or ():
            value = self._value(each, found)
            if value is not None:
                found[each["name"]] = value
        return found

    def _value(self, each: Json, so_far: Mapping[str, str]) -> str | None:
        source = each.get("valueFrom")
        if source is None:
            return expanded(each.get("value", ""), so_far)
        match source:
            case {"secretKeyRef": ref}:
                plural = "secrets"
            case {"configMapKeyRef": ref}:
                plural = "configmaps"
            case {"fieldRef": {"fieldPath": path}}:
                return self._field(path)
            case _:
                raise Unresolved(f"variable {each['name']}: this node does not know {', '.join(source)}")
        optional = bool(ref.get("optional"))
        data = self._data(plural, ref["name"], optional)
        if ref["key"] not in data and not optional:
            raise Unresolved(f'couldn\'t find key {ref["key"]} in {plural[:-1]} "{self.namespace}/{ref["name"]}"')
        return data[ref["key"]].decode() if ref["key"] in data else None

    def _field(self, path: str) -> str:
        metadata, spec = self.raw["metadata"], self.raw["spec"]
        if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
            return str((metadata.get(found[1]) or {}).get(found[2], ""))
        known = {f"metadata.{name}": metadata[name] for name in ("name", "namespace", "uid")}
        known |= {"spec.nodeName": spec.get("nodeName", ""), "spec.serviceAccountName": self.account}
        known |= {"status.podIP": "127.0.0.1", "status.hostIP": "127.0.0.1"}
        if path not in known:
            raise Unresolved(f"this node does not know the field {path}")
        return str(known[path])

    def _services(self) -> Iterator[tuple[str, str]]:
        """What every pod is told of the services in its namespace, and of the API server in any case."""
        listed = [self.read("/api/v1/namespaces/default/services/kubernetes")]
        if self.raw["spec"].get("enableServiceLinks", True):
            listed += (self.read(f"/api/v1/namespaces/{self.namespace}/services") or {})["items"]
        for service in filter(None, listed):
            address = service["spec"].get("clusterIP", "None")
            if address == "None":
                continue
            name = service["metadata"]["name"].upper().replace("-", "_")
            ports = service["spec"]["ports"]
            yield f"{name}_SERVICE_HOST", address
            yield f"{name}_SERVICE_PORT", str(ports[0]["port"])
            yield f"{name}_PORT", f"tcp://{address}:{ports[0]['port']}"
            for port in ports:
                if port.get("name"):
                    yield f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}", str(port["port"])
                yield f"{name}_PORT_{port['port']}_TCP", f"tcp://{address}:{port['port']}"

    def _data(self, plural: str, name: str, optional: bool = False) -> dict[str, bytes]:
        found = self.read(f"/api/v1/namespaces/{self.namespace}/{plural}/{name}")
        if found is None:
            if optional:
                return {}
            raise Unresolved(f'{plural[:-1]} "{name}" not found')
        if plural == "secrets":
            return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
        return {key: value.encode() for key, value in (found.get("data") or {}).items()}

    # -- files ----------------------------------------------------------------------------------------------------

    def mounts(self, folder: Path, user: int, group: int) -> list[dict[str, Any]]:
        """Each mount of the container: where on the machine, where in the container; the files are written."""
        spec, mounted = self.raw["spec"], []
        volumes = {each["name"]: each for each in spec.get("volumes") or ()}
        for mount in self.container.get("volumeMounts") or ():
            volume = volumes[mount["name"]]
            source = folder / mount["name"]
            if not source.exists():
                self._write(volume, source, user, group)
            writable = "emptyDir" in volume and not mount.get("readOnly")
            where = source / mount["subPath"] if mount.get("subPath") else source
            mounted.append({"source": str(where), "target": mount["mountPath"], "read_only": not writable})
        if self._wants_token() and ACCOUNT_FOLDER not in {each["target"] for each in mounted}:
            source = folder / "kube-api-access"
            self._write({"name": "kube-api-access", "projected": {"sources": ACCOUNT}}, source, user, group)
            mounted.append({"source": str(source), "target": ACCOUNT_FOLDER, "read_only": True})
        return mounted

    def _wants_token(self) -> bool:
        account = self.read(f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self.account}")
        if account is None:
            raise Unresolved(f'service account "{self.namespace}/{self.account}" not found')
        for asked in (self.raw["spec"], account):
            if (wanted := asked.get("automountServiceAccountToken")) is not None:
                return bool(wanted)
        return True

    def _write(self, volume: Json, folder: Path, user: int, group: int) -> None:
        folder.mkdir(parents=True)
        (kind,) = volume.keys() - {"name"}
        if kind == "emptyDir":
            return
        source = volume[kind]
        parts = source["sources"] if kind == "projected" else [{kind: source}]
        belongs_to = (self.raw["spec"].get("securityContext") or {}).get("fsGroup")
        for part in parts:
            for path, content, mode in self._files(part, source.get("defaultMode", 0o644)):
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                target.chmod(seen_as(mode, belongs_to, user, group))

    def _files(self, part: Mapping[str, Json], usual: int) -> Iterator[tuple[str, bytes, int]]:
        match part:
            case {"serviceAccountToken": wanted}:
                yield wanted["path"], self.token(wanted).encode(), 0o644
            case {"downwardAPI": wanted}:
                for item in wanted["items"]:
                    yield item["path"], self._field(item["fieldRef"]["fieldPath"]).encode(), item.get("mode", usual)
            case {"secret": wanted} | {"configMap": wanted}:
                plural = "secrets" if "secret" in part else "configmaps"
                name, optional = wanted.get("secretName") or wanted["name"], bool(wanted.get("optional"))
                data = self._data(plural, name, optional)
                for item in wanted.get("items") or [{"key": key, "path": key} for key in data]:
                    if item["key"] in data:
                        yield item["path"], data[item["key"]], item.get("mode", usual)
                    elif not optional:
                        raise Unresolved(f"references non-existent {plural[:-1]} key: {item['key']} of {name}")
            case _:
                raise Unresolved(f"this node does not know volumes of the kind {', '.join(part)}")


# What a pod gets where it names no such volume itself.
ACCOUNT: Final[Sequence[Json]] = (
    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
)


def seen_as(mode: int, belongs_to: int | None, user: int, group: int) -> int:
    """The mode for an owner that gives this user what a file of root's, of this group, would give it."""
    if user == 0:
        return mode
    if belongs_to is not None:
        return (((mode | 0o440) >> 3) & 7) << 6  # kubelet lets the group read; and the user is in it
    return (((mode >> 3) & 7) << 6) if group == 0 else ((mode & 7) << 6)


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """With each ``$(NAME)`` replaced; ``$$`` is a dollar, and what is not known stays as it is."""

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return environment.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)", replace, text)
