"""Kubeconfig files: found, merged as kubectl merges them, and narrowed to the current context.

Of several files the first that holds an entry wins, whole entries are never mixed, and paths are relative to the
file that they stand in (kubernetes.io: "Organizing Cluster Access Using kubeconfig Files"). Only the entries of the
current context are checked. Messages never repeat content: a file's values may be secrets.
"""

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from keep_operator.cluster import credentials, failures
from keep_operator.cluster.credentials import ClientCertificate, Identity
from keep_operator.errors import Refused

SECTIONS: Final = {"clusters": "cluster", "contexts": "context", "users": "user"}


class _Entry(BaseModel):
    """A part of a kubeconfig that we read; what else stands there is kubectl's business."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _Cluster(_Entry):
    server: str = ""
    authority: str | None = Field(None, alias="certificate-authority")
    authority_data: str | None = Field(None, alias="certificate-authority-data")
    insecure: bool = Field(False, alias="insecure-skip-tls-verify")
    tls_server_name: str | None = Field(None, alias="tls-server-name")
    proxy_url: str | None = Field(None, alias="proxy-url", repr=False)


class _Context(_Entry):
    cluster: str = ""
    user: str = ""
    namespace: str | None = None


class _Variable(_Entry):
    name: str
    value: str = Field(repr=False)


class _Exec(_Entry):
    api_version: str = Field(alias="apiVersion")
    command: str
    args: tuple[str, ...] | None = Field(None, repr=False)
    env: tuple[_Variable, ...] | None = None
    install_hint: str | None = Field(None, alias="installHint")
    provide_cluster: bool = Field(False, alias="provideClusterInfo")
    interactive_mode: str | None = Field(None, alias="interactiveMode")


class _User(_Entry):
    certificate: str | None = Field(None, alias="client-certificate")
    certificate_data: str | None = Field(None, alias="client-certificate-data", repr=False)
    key: str | None = Field(None, alias="client-key")
    key_data: SecretStr | None = Field(None, alias="client-key-data")
    token: SecretStr | None = None
    token_file: str | None = Field(None, alias="tokenFile")
    username: str | None = None
    password: SecretStr | None = None
    exec: _Exec | None = None
    auth_provider: Any = Field(None, alias="auth-provider", repr=False)
    impersonate: str | None = Field(None, alias="as")
    impersonate_groups: tuple[str, ...] | None = Field(None, alias="as-groups")


_Model = TypeVar("_Model", bound=_Entry)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the current context says."""

    server: str
    source: str
    namespace: str
    obtain: credentials.Source
    ca_pem: str | None = field(default=None, repr=False)
    tls_server_name: str | None = None
    insecure: bool = False
    proxy_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Found:
    """An entry before it is checked, and the file that it stands in."""

    content: Any = field(repr=False)
    file: Path


@dataclass(frozen=True, slots=True)
class _Merged:
    files: tuple[Path, ...]
    current: str
    entries: Mapping[tuple[str, str], _Found]

    def pick(self, section: str, name: str, wanted_by: str, model: type[_Model]) -> tuple[_Model, Path]:
        found = self.entries.get((section, name))
        if found is None:
            places = ", ".join(str(file) for file in self.files)
            raise failures.kubeconfig(
                f"{places}: {wanted_by} names {SECTIONS[section]} {failures.plain(name, 80)!r}, which is not among "
                f"{section}: add it, or pick another context with `kubectl config use-context`"
            )
        try:
            return model.model_validate(found.content or {}), found.file
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or SECTIONS[section]
            problem = _wrong(
                found.file, section, name, f"{where} is not right ({first['type'].replace('_', ' ')}): correct it"
            )
        raise problem


def choose(files: list[Path], env: Mapping[str, str], clock: Callable[[], datetime]) -> Chosen:
    """The current context of the merged files; raises Refused (KubeconfigInvalid)."""
    merged = _merge(files)
    context, file = merged.pick("contexts", merged.current, "current-context", _Context)
    wanted_by = f"context {failures.plain(merged.current, 80)!r}"
    cluster, cluster_file = merged.pick("clusters", context.cluster, wanted_by, _Cluster)
    if not cluster.server.startswith(("https://", "http://")):
        raise _wrong(cluster_file, "clusters", context.cluster, "server is no http or https URL: set it")
    if cluster.proxy_url and not cluster.proxy_url.startswith(("https://", "http://")):
        raise _wrong(
            cluster_file,
            "clusters",
            context.cluster,
            "proxy-url is no http or https URL (SOCKS cannot be used): change it",
        )
    ca_pem = _authority(cluster, cluster_file, context.cluster)
    obtain: credentials.Source = credentials.anonymous
    if context.user:
        user, user_file = merged.pick("users", context.user, wanted_by, _User)
        obtain = _obtain(user, user_file, context.user, (cluster, ca_pem), env, clock)
    return Chosen(
        server=cluster.server,
        source=f"{file}, {wanted_by}",
        namespace=context.namespace or "default",
        obtain=obtain,
        ca_pem=ca_pem,
        tls_server_name=cluster.tls_server_name or None,
        insecure=cluster.insecure,
        proxy_url=cluster.proxy_url or None,
    )


def _merge(files: list[Path]) -> _Merged:
    present = [file for file in files if os.path.exists(file)]  # False where we may not look
    if not present:
        raise failures.kubeconfig(
            f"KUBECONFIG names {', '.join(str(file) for file in files)}, which cannot be found: "
            "correct it, or start a local cluster with `keep-operator sandbox start`"
        )
    current = ""
    entries: dict[tuple[str, str], _Found] = {}
    for file in present:
        document = _parse(file)
        stated = document.get("current-context")
        current = current or (stated if isinstance(stated, str) else "")
        for section, key in SECTIONS.items():
            listed = document.get(section) or []
            for item in listed if isinstance(listed, list) else []:
                if isinstance(item, dict) and isinstance(name := item.get("name"), str):
                    entries.setdefault((section, name), _Found(item.get(key), file))
    if not current:
        raise failures.kubeconfig(
            f"{', '.join(str(file) for file in present)}: current-context is not set: "
            "pick one with `kubectl config use-context NAME`"
        )
    return _Merged(tuple(present), current, entries)


def _parse(file: Path) -> dict[str, Any]:
    text = credentials.read(file, "the kubeconfig")
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = failures.kubeconfig(f"{file} is no YAML (line {line}): correct it, or make it anew")
    except (yaml.YAMLError, ValueError, RecursionError):
        problem = failures.kubeconfig(f"{file} is no YAML: correct it, or make it anew")
    else:
        if document is None or isinstance(document, dict):
            return document or {}
        problem = failures.kubeconfig(f"{file} is no kubeconfig: its top level is no mapping")
    raise problem


def _authority(cluster: _Cluster, file: Path, name: str) -> str | None:
    if cluster.insecure:
        if cluster.authority or cluster.authority_data:
            raise _wrong(
                file,
                "clusters",
                name,
                "insecure-skip-tls-verify and a certificate authority exclude each other: remove one",
            )
        return None
    if cluster.authority_data:
        pem = _decode(cluster.authority_data, "certificate-authority-data", file, "clusters", name)
    elif cluster.authority:
        pem = credentials.read(file.parent / cluster.authority, f"{file}: the certificate authority")
    else:
        return None
    return pem.decode("ascii", "replace")


def _obtain(
    user: _User,
    file: Path,
    name: str,
    cluster: tuple[_Cluster, str | None],
    env: Mapping[str, str],
    clock: Callable[[], datetime],
) -> credentials.Source:
    if user.auth_provider is not None:
        raise _wrong(file, "users", name, "auth-provider is no longer supported: use exec, a token or a certificate")
    if user.impersonate or user.impersonate_groups:
        raise _wrong(file, "users", name, "impersonation (as, as-groups) is not supported: use that user's credentials")
    fixed = Identity(_authorization(user, file, name), _certificate(user, file, name))
    if user.exec is not None:
        return _plugin(user.exec, file, name, cluster, env, fixed)
    paths = (user.certificate, user.key) if user.certificate and user.key and fixed.certificate is None else None
    if user.token_file or paths:
        return credentials.Files(
            token_path=file.parent / user.token_file if user.token_file else None,
            certificate_path=file.parent / paths[0] if paths else None,
            key_path=file.parent / paths[1] if paths else None,
            fixed=fixed,
            clock=clock,
        )
    return credentials.Fixed(fixed)


def _authorization(user: _User, file: Path, name: str) -> str | None:
    token = user.token.get_secret_value().strip() if user.token else ""
    password = user.password.get_secret_value() if user.password else ""
    if (token or user.token_file) and (user.username or password):
        raise _wrong(file, "users", name, "a token and a password exclude each other: remove one")
    if token and not (token.isascii() and token.isprintable()):
        raise _wrong(file, "users", name, "token has characters that no token has: copy it again")
    if user.username or password:
        return credentials.basic(user.username or "", password)
    return credentials.bearer(token) if token else None


def _certificate(user: _User, file: Path, name: str) -> ClientCertificate | None:
    """The pair, if at least one half stands in the kubeconfig itself."""
    if bool(user.certificate or user.certificate_data) != bool(user.key or user.key_data):
        raise _wrong(
            file, "users", name, "a client certificate needs its key, and a key its certificate: add the other"
        )
    if not user.certificate_data and not user.key_data:
        return None
    if user.certificate_data:
        certificate = _decode(user.certificate_data, "client-certificate-data", file, "users", name)
    else:
        certificate = credentials.read(file.parent / (user.certificate or ""), f"{file}: the client certificate")
    if user.key_data:
        key = _decode(user.key_data.get_secret_value(), "client-key-data", file, "users", name)
    else:
        key = credentials.read(file.parent / (user.key or ""), f"{file}: the client certificate's key")
    return ClientCertificate(certificate, key)


def _plugin(
    plugin: _Exec,
    file: Path,
    name: str,
    cluster: tuple[_Cluster, str | None],
    env: Mapping[str, str],
    fixed: Identity,
) -> credentials.Source:
    if plugin.api_version not in credentials.EXEC_VERSIONS:
        raise _wrong(file, "users", name, f"exec.apiVersion is not {' or '.join(credentials.EXEC_VERSIONS)}: change it")
    if plugin.interactive_mode == "Always":
        raise _wrong(
            file,
            "users",
            name,
            "exec.interactiveMode Always needs a terminal, which the operator has not: use another user",
        )
    told = None
    if plugin.provide_cluster:
        entry, ca_pem = cluster
        told = {
            "server": entry.server,
            "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode() if ca_pem else None,
            "tls-server-name": entry.tls_server_name,
            "insecure-skip-tls-verify": entry.insecure or None,
            "proxy-url": entry.proxy_url,
        }
        told = {key: value for key, value in told.items() if value}
    has_folder = os.sep in plugin.command
    return credentials.Plugin(
        command=str(file.parent / plugin.command) if has_folder else plugin.command,
        arguments=plugin.args or (),
        api_version=plugin.api_version,
        environment={**env, **{variable.name: variable.value for variable in plugin.env or ()}},
        install_hint=plugin.install_hint or "",
        cluster=told,
        fixed=fixed,
    )


def _decode(text: str, what: str, file: Path, section: str, name: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        problem = _wrong(file, section, name, f"{what} is not base64: copy it again")
    raise problem


def _wrong(file: Path, section: str, name: str, fact: str) -> Refused:
    return failures.kubeconfig(f"{file}: {SECTIONS[section]} {failures.plain(name, 80)!r}: {fact}")
