"""Credentials at rest: sealed with one key, opened with any that is given, and useless in another row."""

import base64
import secrets
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from keep_operator.store.vault import Sealed, Vault

pytestmark = pytest.mark.unit

ID, OTHER_ID = UUID(int=1), UUID(int=2)
CREDENTIALS = {"BasicAuthPassword": base64.b64encode(b"canary-4711").decode()}


def a_key() -> SecretStr:
    return SecretStr(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())


OLD, NEW = a_key(), a_key()


@given(st.dictionaries(st.text(), st.text()))
def test_what_is_sealed_opens_as_it_was(credentials: dict[str, str]) -> None:
    """Whatever a Secret holds."""
    vault = Vault([OLD])
    assert vault.open(ID, vault.seal(ID, credentials)) == credentials


def test_nothing_of_it_can_be_read() -> None:
    """Neither value nor field shows in the database, and the same never looks the same twice."""
    vault = Vault([OLD])
    one, two = vault.seal(ID, CREDENTIALS), vault.seal(ID, CREDENTIALS)
    assert one.text != two.text
    for shown in (one.text, base64.urlsafe_b64decode(one.text).decode("latin-1")):
        assert "BasicAuth" not in shown
        assert CREDENTIALS["BasicAuthPassword"] not in shown


def test_a_copy_in_another_row_does_not_open() -> None:
    """Who can write to the database cannot give one provider the credentials of another."""
    vault = Vault([OLD])
    assert vault.open(OTHER_ID, vault.seal(ID, CREDENTIALS)) is None


@pytest.mark.parametrize("text", ["", "garbage", "gAAAA", "ä"])
def test_what_was_tampered_with_does_not_open(text: str) -> None:
    """It is an answer, not an error."""
    vault = Vault([OLD])
    assert vault.open(ID, Sealed(vault.name, text)) is None


def test_a_wrong_key_opens_nothing() -> None:
    """And knows so from the name that the database has."""
    sealed = Vault([OLD]).seal(ID, CREDENTIALS)
    other = Vault([NEW])
    assert other.open(ID, sealed) is None
    assert other.trust(sealed.key_name) is False
    assert other.trusted is False


def test_while_keys_are_rotated_both_open_and_the_first_seals() -> None:
    """The new key is put before the old one; nothing is lost in between."""
    old, both, new = Vault([OLD]), Vault([NEW, OLD]), Vault([NEW])
    before = old.seal(ID, CREDENTIALS)
    assert both.open(ID, before) == CREDENTIALS
    assert both.trust(before.key_name) is True
    assert new.open(ID, both.seal(ID, CREDENTIALS)) == CREDENTIALS


def test_a_first_start_trusts_its_key() -> None:
    """There is nothing yet that another key could have sealed."""
    assert Vault([OLD]).trust(None) is True


def test_padding_does_not_make_another_key() -> None:
    """`token_urlsafe` leaves it out."""
    assert Vault([OLD]).name == Vault([SecretStr(OLD.get_secret_value().rstrip("="))]).name


def test_the_name_of_a_key_tells_nothing_of_it() -> None:
    """It stands in the database in clear text."""
    name = Vault([OLD]).name
    assert len(name) == 16
    assert name not in base64.urlsafe_b64decode(OLD.get_secret_value()).hex()


def test_the_hash_changes_with_settings_credentials_and_key_only() -> None:
    """So a status can show it."""
    vault = Vault([OLD])
    base = vault.digest({"a": 1, "b": 2}, {"x": "1"})
    assert vault.digest({"b": 2, "a": 1}, {"x": "1"}) == base
    assert len({base, vault.digest({"a": 1}, {"x": "1"}), vault.digest({"a": 1, "b": 2}, {"x": "2"})}) == 3
    assert Vault([NEW]).digest({"a": 1, "b": 2}, {"x": "1"}) != base
