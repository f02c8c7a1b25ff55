"""The environment: what is said, what is assumed, and what is answered to nonsense."""

import base64
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from keep_operator import settings
from keep_operator.errors import Refused
from keep_operator.settings import PREFIX, LogFormat, Settings

pytestmark = pytest.mark.unit

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
URL = "postgresql://user:hunter2-secret@db:5432/keep"
NEEDED = {"DATABASE_URL": URL, "ENCRYPTION_KEY": KEY}


def load(**values: str) -> Settings:
    """The settings of an environment that holds only these variables."""
    return settings.load({PREFIX + name: value for name, value in values.items()})


def load_for_operate(**values: str) -> Settings:
    """The same for a process that needs some of them."""
    return settings.load({PREFIX + name: value for name, value in values.items()}, operate=True)


def refusal(read: Callable[..., Settings] = load, **values: str) -> str:
    """What is said to values that cannot be used."""
    with pytest.raises(Refused) as error:
        read(**values)
    assert error.value.reason == "SettingsInvalid"
    return error.value.message


def test_an_empty_environment_has_the_documented_defaults() -> None:
    """Nothing must be set but what cannot be guessed."""
    given = load()
    assert (given.default_tenant, given.runtime, given.cluster_id) == ("keep", "builtin", "")
    assert (given.watch_namespaces, given.secret_namespaces) == ((), ())
    assert (given.health_port, given.log_format) == (8080, LogFormat.AUTO)
    assert given.resync_period == timedelta(minutes=10)
    assert given.decisions_unverified == "Refuse"
    assert given.restore_labels == ("velero.io/restore-name",)
    assert given.owner_references == "ExceptArgoCD"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CLUSTER_ID", "prod-eu-1", "prod-eu-1"),
        ("DEFAULT_TENANT", "platform", "platform"),
        ("DEFAULT_TENANT", "", ""),
        ("WATCH_NAMESPACES", "monitoring, sre,,", ("monitoring", "sre")),
        ("WATCH_NAMESPACES", "", ()),
        ("SECRET_NAMESPACES", "monitoring", ("monitoring",)),
        ("HEALTH_PORT", "0", 0),
        ("CONSOLE_PORT", "0", 0),
        ("HEALTH_PORT", "65535", 65535),
        ("LOG_FORMAT", "json", LogFormat.JSON),
        ("LOG_FORMAT", "text", LogFormat.TEXT),
        ("RESYNC_PERIOD", "1h30m", timedelta(minutes=90)),
        ("RESYNC_PERIOD", "30s", timedelta(seconds=30)),
        ("RUNTIME", "builtin", "builtin"),
        ("SWEEP_INTERVAL", "30m", timedelta(minutes=30)),
        ("SWEEP_INTERVAL", "5s", timedelta(seconds=5)),
        ("WATCH_SILENCE_LIMIT", "150s", timedelta(seconds=150)),
        ("FORCE_DELETE_SECONDS", "0", 0),
        ("DECISIONS_UNVERIFIED", "Record", "Record"),
        (
            "RESTORE_LABELS",
            "velero.io/restore-name, example.com/restored",
            ("velero.io/restore-name", "example.com/restored"),
        ),
        ("OWNER_REFERENCES", "Always", "Always"),
        ("ALERT_RETENTION", "720h", timedelta(days=30)),
        ("EVENTS_PER_SECOND", "5", 5),
        ("SESSION_KEY", KEY, (SecretStr(KEY),)),
        ("SIGNIN_ONCE", '{"secret": "token"}', SecretStr('{"secret": "token"}')),
        ("CONSOLE_URL", "https://keep.example.com", "https://keep.example.com"),
        ("CONSOLE_URL", "https://keep.example.com/", "https://keep.example.com"),
        ("CONSOLE_URL", "http://localhost:8081", "http://localhost:8081"),
        ("CONSOLE_URL", "http://[fd00::1]:8081/", "http://[fd00::1]:8081"),
        ("CONSOLE_URL", "", ""),
        ("LEASE_SECONDS", "2", 2),
        ("RUNS_AT_ONCE", "3", 3),
        ("RUN_HEARTBEAT_SECONDS", "0.5", 0.5),
        ("RUN_STALLED_SECONDS", "60", 60.0),
    ],
)
def test_each_variable_is_read(name: str, value: str, expected: object) -> None:
    """Under its documented name, in its documented form."""
    assert getattr(settings.load({PREFIX + name: value}), name.lower()) == expected


def test_every_variable_is_tested_here() -> None:
    """One that is new must be added to the tables above and below."""
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f'"{name.upper()}"' not in text] == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RUN_STALLED_SECONDS", "14", "at least three heartbeats"),
        ("RUN_HEARTBEAT_SECONDS", "0", "greater than or equal to 0.5"),
        ("CLUSTER_ID", "x" * 254, "at most 253 characters"),
        ("DEFAULT_TENANT", "Keep", "not a DNS label"),
        ("DEFAULT_TENANT", "-keep", "not a DNS label"),
        ("DEFAULT_TENANT", "ke.ep", "not a DNS label"),
        ("DEFAULT_TENANT", "ké", "not a DNS label"),
        ("DEFAULT_TENANT", "x" * 64, "at most 63 characters"),
        ("WATCH_NAMESPACES", "a/b", "not names of namespaces"),
        ("WATCH_NAMESPACES", "a;b", "not names of namespaces"),
        ("SECRET_NAMESPACES", "Monitoring", "not names of namespaces"),
        ("HEALTH_PORT", "http", "valid integer"),
        ("HEALTH_PORT", "", "valid integer"),
        ("HEALTH_PORT", "65536", "less than or equal to 65535"),
        ("HEALTH_PORT", "-1", "greater than or equal to 0"),
        ("CONSOLE_PORT", "65536", "less than or equal to 65535"),
        ("LOG_FORMAT", "yaml", "'auto', 'json' or 'text'"),
        ("LOG_FORMAT", "", "'auto', 'json' or 'text'"),
        ("RESYNC_PERIOD", "10", "such as 30s, 10m"),
        ("RESYNC_PERIOD", "", "such as 30s, 10m"),
        ("RESYNC_PERIOD", "29s", "at least 30s"),
        ("RUNTIME", "keep", "'builtin'"),
        ("SWEEP_INTERVAL", "1s", "at least 5s"),
        ("ALERT_RETENTION", "30s", "at least 1m"),
        ("EVENTS_PER_SECOND", "0", "greater than or equal to 1"),
        ("WATCH_SILENCE_LIMIT", "2m", "at least 150s"),
        ("FORCE_DELETE_SECONDS", "-1", "greater than or equal to 0"),
        ("FORCE_DELETE_SECONDS", "1m", "valid integer"),
        ("DECISIONS_UNVERIFIED", "Allow", "'Refuse' or 'Record'"),
        ("CONSOLE_URL", "keep.acme.org", "an address such as https://keep.example.com"),
        ("CONSOLE_URL", "ftp://keep.example.com", "with http or https and a host"),
        ("CONSOLE_URL", "https:///", "with http or https and a host"),
        ("CONSOLE_URL", "https://keep example.com", "with http or https and a host"),
        ("CONSOLE_URL", "https://keep.example.com\n", "with http or https and a host"),
        ("CONSOLE_URL", "https://keep.example.com:0", "with http or https and a host"),
        ("CONSOLE_URL", "https://keep.example.com:65536", "with http or https and a host"),
        ("CONSOLE_URL", "https://keep.example.com:https", "with http or https and a host"),
        ("CONSOLE_URL", "javascript:alert(1)", "with http or https and a host"),
        ("CONSOLE_URL", "https://ann:hunter2@keep.example.com", "no user and no password"),
        ("CONSOLE_URL", "https://ann@keep.example.com", "no user and no password"),
        ("CONSOLE_URL", "https://keep.example.com/keep", "not below a path"),
        ("CONSOLE_URL", "https://keep.example.com/?to=/", "not below a path"),
        ("CONSOLE_URL", "https://keep.example.com#runs", "not below a path"),
        ("CONSOLE_URL", f"https://{'x' * 300}", "at most 300 characters"),
        ("LEASE_SECONDS", "1", "greater than or equal to 2"),
        ("LEASE_SECONDS", "10s", "valid integer"),
        ("ENCRYPTION_KEY", "hunter2", "32 bytes in URL-safe base64. Make a key with: python3"),
        ("ENCRYPTION_KEY", KEY + "A", "32 bytes in URL-safe base64"),
        ("ENCRYPTION_KEY", KEY.replace("A", "+"), "32 bytes in URL-safe base64"),
    ],
)
def test_a_value_that_cannot_be_used_is_answered_with_its_variable_and_the_remedy(
    name: str, value: str, words: str
) -> None:
    """One message, and never the value: it may be a secret in the wrong variable."""
    message = refusal(lambda: settings.load({PREFIX + name: value}))
    assert message.startswith(f"{PREFIX}{name}: ")
    assert words in message
    assert not value or len(value) < 6 or value not in message
    assert "Value error" not in message


def test_all_faults_are_told_at_once() -> None:
    """Nobody mends five variables in five restarts."""
    message = refusal(load_for_operate, HEALTH_PORT="http", RESYNC_PERIOD="1s")
    for name in ("HEALTH_PORT", "RESYNC_PERIOD", "DATABASE_URL", "ENCRYPTION_KEY_FILE"):
        assert PREFIX + name in message


def test_the_operator_needs_a_database_and_a_key() -> None:
    """It refuses to start without, and says how to make a key (A-PKG-5)."""
    message = refusal(load_for_operate)
    assert f"{PREFIX}DATABASE_URL is not set: postgresql://" in message
    assert f"{PREFIX}ENCRYPTION_KEY_FILE is not set. Make a key with: " in message
    load_for_operate(**NEEDED)


def test_the_key_that_the_message_makes_is_one_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    """The remedy is tried."""
    found = re.search(r"python3 -c '(.*)' >", settings.MAKE_A_KEY)
    assert found is not None
    exec(found[1], {})  # noqa: S102 - the very line that is shown to users
    load_for_operate(DATABASE_URL=URL, ENCRYPTION_KEY=capsys.readouterr().out)


def keys(given: Settings) -> list[str]:
    return [key.get_secret_value() for key in given.encryption_key]


def test_cookies_have_a_key_of_their_own_and_the_sandbox_signs_in_once() -> None:
    """Neither stands in a message or a trace; what cannot be one is refused."""
    given = load(SESSION_KEY=KEY, SIGNIN_ONCE='{"secret": "token"}')
    assert [each.get_secret_value() for each in given.session_key] == [KEY]
    assert given.signin_once.get_secret_value() == '{"secret": "token"}'
    assert KEY not in repr(given) and "secret" not in repr(given.signin_once)
    with pytest.raises(Refused, match="KEEP_OPERATOR_SESSION_KEY: not 32 bytes"):
        load(SESSION_KEY="short")
    for wrong in ("token", "[]", '{"secret": 1}', '{"": "token"}'):
        with pytest.raises(Refused, match="KEEP_OPERATOR_SIGNIN_ONCE: not a JSON object of secrets and tokens"):
            load(SIGNIN_ONCE=wrong)


def test_several_keys_are_given_one_a_line(tmp_path: Path) -> None:
    """While keys are rotated: the new one first, the old one below."""
    path = tmp_path / "keys"
    other = KEY[::-1].lstrip("=") + "="
    path.write_text(f"{KEY}\n{other}\n", encoding="utf-8")
    assert keys(load(ENCRYPTION_KEY_FILE=str(path))) == [KEY, other]
    assert keys(load(ENCRYPTION_KEY=f"{KEY}, {other}")) == [KEY, other]


def test_a_list_without_a_key_is_none() -> None:
    """A comma alone is no key to start with."""
    assert "ENCRYPTION_KEY_FILE is not set" in refusal(load_for_operate, DATABASE_URL=URL, ENCRYPTION_KEY=" , ")


@pytest.mark.parametrize("key", [KEY, KEY.rstrip("="), f"  {KEY}\n"])
def test_a_key_may_come_without_padding_and_with_blanks_around(key: str) -> None:
    """As `token_urlsafe` and editors make them."""
    assert keys(load(ENCRYPTION_KEY=key)) == [key.strip()]


def test_a_key_comes_better_from_a_file(tmp_path: Path) -> None:
    """Which goes before the variable; blanks around it do not count."""
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n", encoding="utf-8")
    given = load_for_operate(DATABASE_URL=URL, ENCRYPTION_KEY_FILE=str(path), ENCRYPTION_KEY="ignored")
    assert keys(given) == [KEY]


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b""])
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | None) -> None:
    """By its variable and path, once."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    message = refusal(load_for_operate, DATABASE_URL=URL, ENCRYPTION_KEY_FILE=str(path))
    assert message.count("ENCRYPTION_KEY") == 1
    assert (str(path) in message) == (content != b"")


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    """A Secret mounted without its key."""
    assert "IsADirectoryError" in refusal(ENCRYPTION_KEY_FILE=str(tmp_path))


def test_an_empty_file_variable_is_as_good_as_none() -> None:
    """Charts render empty values."""
    assert keys(load(ENCRYPTION_KEY_FILE="", ENCRYPTION_KEY=KEY)) == [KEY]


def test_secrets_do_not_show() -> None:
    """Not in a log line that prints the settings, nor in a traceback."""
    given = load(**NEEDED)
    for text in (repr(given), str(given), str(given.model_dump())):
        assert "hunter2" not in text
        assert KEY not in text


@given(st.text(max_size=40))
def test_no_value_of_a_secret_is_ever_repeated(value: str) -> None:
    """Whatever was put there."""
    assert "§" not in refusal(ENCRYPTION_KEY=f"§{value}§")


def test_variables_of_others_are_none_of_our_business() -> None:
    """The environment of a pod is full of them."""
    assert settings.load({"PATH": "/bin", "OTHER_HEALTH_PORT": "x", "KEEP_OPERATOR_CONSOLE_HOST": "8081"}) == load()


def test_without_an_argument_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every command does."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KEEP_OPERATOR_HEALTH_PORT", "9")
    assert settings.load().health_port == 9


def test_the_console_needs_the_database_and_no_key() -> None:
    """Who only reads is not given what opens credentials."""
    with pytest.raises(Refused, match="KEEP_OPERATOR_DATABASE_URL is not set"):
        settings.load({}, console=True)
    assert settings.load({f"{PREFIX}DATABASE_URL": URL}, console=True).encryption_key == ()
