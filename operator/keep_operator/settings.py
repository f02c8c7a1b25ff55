"""Every environment variable that the processes read, once: what it means, its unit, its default and why.

Names and defaults are a contract: the chart and scripts rely on them. Secrets can be given as
``NAME`` or, better, as ``NAME_FILE``, a file that holds the value.
"""

import json
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from keep_operator.domain.tenancy import OwnerReferences
from keep_operator.errors import Refused
from keep_operator.resources.shapes import DNS_LABEL, parse_duration

PREFIX: Final = "KEEP_OPERATOR_"
SECRETS: Final = ("ENCRYPTION_KEY", "SESSION_KEY", "SIGNIN_ONCE")
# A stream is opened anew after 70 s of silence: this leaves one such attempt to fail.
SHORTEST_WATCH_SILENCE_LIMIT: Final = timedelta(seconds=150)
# 32 bytes; whether the last character is followed by its padding does not matter.
KEY_FORM: Final = re.compile("[A-Za-z0-9_-]{43}=?")
ADDRESS: Final = re.compile(
    r"https?://(?P<credentials>[^/?#@\s]*@)?(?:[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>(?:[/?#][^\s]*)?)"
)
MAKE_A_KEY: Final = (
    "Make a key with: "
    "python3 -c 'import base64, secrets; print(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())' > encryption.key"
)


class LogFormat(StrEnum):
    """How log lines look; ``auto`` is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _names(value: Any) -> Any:
    return tuple(name for part in value.split(",") if (name := part.strip())) if isinstance(value, str) else value


def _keys(value: Any) -> Any:
    return tuple(SecretStr(key) for key in re.split(r"[\s,]+", value) if key) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Keys = Annotated[tuple[SecretStr, ...], BeforeValidator(_keys)]


class Settings(BaseModel):
    """What the processes need to know; each field is the variable ``KEEP_OPERATOR_<NAME>``, read once at start."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="The control database, `postgresql://user:password@host:port/name`. Required.",
    )
    encryption_key: Keys = Field(
        default=(),
        description="32 random bytes in URL-safe base64: credentials at rest and the keyed hashes in status. Several, one "
        "a line, while keys are rotated: the first one writes, all of them read. Required by `operate` and `runner`.",
    )
    session_key: Keys = Field(
        default=(),
        description="32 random bytes in URL-safe base64: the cookies of the console's pages. The same for all replicas; several, one a "
        "line, while keys are rotated. Unset: made anew at each start, so that everybody must sign in again.",
    )
    signin_once: SecretStr = Field(
        default=SecretStr(""),
        description="For a console that only its own machine reaches: a JSON object of secrets and the token that each of them signs in "
        "with, once, at `/signin/once/SECRET`. The sandbox uses it.",
    )
    cluster_id: str = Field(
        default="",
        max_length=253,
        description="Marks the rows that this cluster owns. Generated once and kept in the database when unset; set it by hand "
        "only to restore into another cluster.",
    )
    default_tenant: str = Field(
        default="keep", max_length=63, description="Id of the tenant that is made when absent. Empty: none is made."
    )
    watch_namespaces: Names = Field(default=(), description="Comma-separated; empty: all namespaces.")
    secret_namespaces: Names = Field(
        default=(), description="Comma-separated namespaces whose Secrets may be read; empty: those that are watched."
    )
    health_port: int = Field(
        default=8080, ge=0, le=65535, description="/healthz, /readyz and /metrics; 0: any free port."
    )
    console_port: int = Field(
        default=8081, ge=0, le=65535, description="The API and the pages of `keep-operator console`; 0: any free port."
    )
    console_url: str = Field(
        default="",
        max_length=300,
        description="Where people reach the console's pages, such as `https://keep.example.com`: `status.resultUrl` of runs and the "
        "Events of failures lead there. Unset: there are no links.",
    )
    log_format: LogFormat = Field(default=LogFormat.AUTO, description="json, text or auto.")
    resync_period: Duration = Field(
        default=timedelta(minutes=10),
        description="How often a Ready object is looked at though nothing changed, ±10 %. A Provider may set its own.",
    )
    runtime: Literal["builtin"] = Field(
        default="builtin", description="What runs workflows where a Tenant does not say: builtin."
    )
    sweep_interval: Duration = Field(
        default=timedelta(minutes=10),
        description="How often cache, database and API server are compared, to find objects that are gone though no watch told "
        "so. Their records are collected by the second such comparison, not before.",
    )
    watch_silence_limit: Duration = Field(
        default=timedelta(minutes=5),
        description="A watch without a sign of life for longer than this, while the API server answers others, is taken for dead "
        "and fails /healthz. A living one shows it each minute.",
    )
    force_delete_seconds: int = Field(
        default=60,
        ge=0,
        le=86_400,
        description="How long an object with annotation `keep-operator.dev/force-delete` is held while the database is away.",
    )
    decisions_unverified: Literal["Refuse", "Record"] = Field(
        default="Refuse",
        description="What becomes of decisions for the privileged where the cluster cannot prove who made them: they are refused, "
        "or carried out and recorded as unverified.",
    )
    restore_labels: Names = Field(
        default=("velero.io/restore-name",),
        description="Comma-separated labels that backup tools put on what they restore: a WorkflowRun that has one and was not "
        "accepted here does not run.",
    )
    owner_references: OwnerReferences = Field(
        default="ExceptArgoCD",
        description="Which objects get their Tenant as owner (a decision its Workflow): all but those that Argo CD tracks, since it "
        "does not prune what has an owner; or `Always`.",
    )
    alert_retention: Duration = Field(
        default=timedelta(days=30),
        description="How long an alert is known after its last event; after that it counts as new.",
    )
    events_per_second: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Events that the console takes of one tenant in a second, for each of its replicas; ten times as many, and at "
        "least 1,000, at once.",
    )
    lease_seconds: int = Field(
        default=10,
        ge=2,
        le=300,
        description="Seconds after which a standby takes over from a leader that has stopped renewing its Lease.",
    )

    runs_at_once: int = Field(
        default=10, ge=1, le=1_000, description="Runs that one `keep-operator runner` has under way at once."
    )
    run_heartbeat_seconds: float = Field(
        default=5.0, ge=0.5, le=60.0, description="How often a runner shows in the database that it lives."
    )
    run_stalled_seconds: float = Field(
        default=20.0,
        ge=2.0,
        le=300.0,
        description="Seconds without a sign of life after which a runner is taken for dead, and others go on with its runs; at "
        "least three times `KEEP_OPERATOR_RUN_HEARTBEAT_SECONDS`.",
    )

    @field_validator("run_stalled_seconds")
    @classmethod
    def _survives_a_missed_heartbeat(cls, value: float, info: ValidationInfo) -> float:
        if value < 3 * info.data.get("run_heartbeat_seconds", 0.0):
            raise ValueError(
                "must be at least three heartbeats: else a runner that is slow once would be taken for dead"
            )
        return value

    @field_validator("resync_period", "sweep_interval")
    @classmethod
    def _not_too_short(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        shortest_s = {"resync_period": 30, "sweep_interval": 5}[info.field_name or ""]
        if value < timedelta(seconds=shortest_s):
            raise ValueError(f"must be at least {shortest_s}s: below that it would itself be the load")
        return value

    @field_validator("alert_retention")
    @classmethod
    def _longer_than_alerts_repeat_themselves(cls, value: timedelta) -> timedelta:
        if value < timedelta(minutes=1):
            raise ValueError(
                "must be at least 1m: an alert that is forgotten between two of its events starts workflows anew"
            )
        return value

    @field_validator("watch_silence_limit")
    @classmethod
    def _longer_than_a_living_watch_is_silent(cls, value: timedelta) -> timedelta:
        if value < SHORTEST_WATCH_SILENCE_LIMIT:
            raise ValueError("must be at least 150s: below that a watch that lives would be taken for dead")
        return value

    @field_validator("encryption_key", "session_key")
    @classmethod
    def _key(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(KEY_FORM.fullmatch(key.get_secret_value()) for key in value):
            raise ValueError(f"not 32 bytes in URL-safe base64. {MAKE_A_KEY}")
        return value

    @field_validator("signin_once")
    @classmethod
    def _pairs(cls, value: SecretStr) -> SecretStr:
        try:
            pairs = json.loads(value.get_secret_value() or "{}")
        except ValueError:
            pairs = None
        if not isinstance(pairs, dict) or not all(key and isinstance(each, str) for key, each in pairs.items()):
            raise ValueError("not a JSON object of secrets and tokens")
        return value

    @field_validator("console_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        """Without a slash at the end. It is shown to everybody who may read a run."""
        if not value:
            return value
        found = ADDRESS.fullmatch(value)
        if found is None or int(found["port"] or 1) not in range(1, 65_536):
            raise ValueError("not an address such as https://keep.example.com, with http or https and a host")
        if found["credentials"]:
            raise ValueError("must have no user and no password: everybody who may read a run sees it")
        if found["rest"] not in ("", "/"):
            raise ValueError(
                "must end after the host and its port: the pages are at the root of their address, not below a path"
            )
        return value.removesuffix("/")

    @field_validator("watch_namespaces", "secret_namespaces")
    @classmethod
    def _namespaces(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(DNS_LABEL[1:-1], name) for name in value):
            raise ValueError("not names of namespaces (lower-case letters, digits and dashes), separated by commas")
        return value

    @field_validator("default_tenant")
    @classmethod
    def _label(cls, value: str) -> str:
        if value and not re.fullmatch(DNS_LABEL[1:-1], value):
            raise ValueError("not a DNS label (lower-case letters, digits and dashes)")
        return value


def load(
    env: Mapping[str, str] | None = None, *, operate: bool = False, console: bool = False, runner: bool = False
) -> Settings:
    """The settings of the environment; those that ``operate``, ``console`` or ``runner`` cannot start without are required.

    Raises Refused (`SettingsInvalid`) with every fault, each naming the variable and the remedy; never a value.
    """
    given = dict(os.environ if env is None else env)
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name in Settings.model_fields:
        if (text := given.get(PREFIX + name.upper())) is not None:
            values[name] = text.strip() if name.upper() in SECRETS else text
    for name in SECRETS:
        if path := given.get(f"{PREFIX}{name}_FILE"):
            try:
                values[name.lower()] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                faults.append(f"{PREFIX}{name}_FILE: cannot read {path}: {type(error).__name__}")
    settings = None
    try:
        settings = Settings(**values)
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False, include_context=False):
            faults.append(f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}")
    if (operate or console or runner) and not values.get("database_url"):
        faults.append(f"{PREFIX}DATABASE_URL is not set: postgresql://user:password@host:5432/database")
    if (
        (operate or runner)
        and not _keys(values.get("encryption_key", ""))
        and not any("ENCRYPTION_KEY" in fault for fault in faults)
    ):
        faults.append(f"{PREFIX}ENCRYPTION_KEY_FILE is not set. {MAKE_A_KEY}")
    if faults or settings is None:
        raise Refused("SettingsInvalid", "; ".join(faults))
    return settings
