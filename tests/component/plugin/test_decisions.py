"""`kubectl keep rollback` and the other decisions: what is made, under whose name, and what is told of it."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keep_operator.resources import decision
from keep_operator.resources.shapes import Invalid

from .conftest import HASHES, Terminal

pytestmark = pytest.mark.component

ROLLBACK = ("rollback", "high-cpu", "--reason", "incident 4711")


def test_a_rollback_is_one_call(terminal: Terminal) -> None:
    """It says what it saw, asks for the version before, goes under the user's own name, and tells what came of it."""
    terminal.answers("True", "Done", "v1 (12345678) is active", **{"from": 2, "to": 1})
    result = terminal.keep(*ROLLBACK)
    assert result.exit_code == 0, result.output
    assert result.stdout == "Done: v1 (12345678) is active (v2 -> v1)\n"
    (made,) = terminal.created
    assert made["metadata"]["namespace"] == "monitoring"
    request_id = made["spec"].pop("requestId")
    assert len(request_id) == 36
    assert made["spec"] == {
        "workflowRef": {"name": "high-cpu"},
        "action": "Rollback",
        "reason": "incident 4711",
        "expect": {"activeRevision": 2},
        "actor": "carol@example.com",
    }


def test_what_is_only_decided_about_is_not_told_as_a_move(terminal: Terminal) -> None:
    """A version that was rejected did not take over, so nobody reads "v2 -> v3" and believes it at night."""
    terminal.answers("True", "Done", "v3 is rejected", action="Reject", **{"from": 2, "to": 3})
    result = terminal.keep("reject", "high-cpu", "v3", "-m", "pages everybody")
    assert result.stdout == "Done: v3 is rejected\n", result.output


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        (("rollback", "--to", "v1", "-m", "x"), {"action": "Rollback", "revision": {"number": 1}}),
        (("rollback", "--to", "7", "-m", "x"), {"action": "Rollback", "revision": {"number": 7}}),
        (("rollback", "--to", "a" * 64, "-m", "x"), {"action": "Rollback", "revision": {"contentHash": "a" * 64}}),
        (("rollback", "--to", "staging", "-m", "x"), {"action": "Rollback", "revision": {"tag": "staging"}}),
        (("rollback", "--to", "previous", "-m", "x", "--force"), {"action": "Rollback", "force": True}),
        (("tag", "golden", "previous"), {"action": "Tag", "revision": {"previous": True}}),
        (("resume",), {"action": "Resume"}),
        (("deploy",), {"action": "Deploy", "revision": {"number": 3}}),
        (("reject", "latest", "-m", "x"), {"action": "Reject", "revision": {"number": 3}}),
        (("retry",), {"action": "Retry"}),
        (("tag", "golden"), {"action": "Tag", "tag": "golden", "revision": {"number": 2}}),
        (("tag", "golden", "v1"), {"action": "Tag", "tag": "golden", "revision": {"number": 1}}),
        (("untag", "production"), {"action": "Untag", "tag": "production"}),
        (("note", "checked with Ann"), {"action": "Note", "reason": "checked with Ann"}),
        (("note", "checked", "--of", HASHES[1]), {"action": "Note", "revision": {"number": 1}}),
        (("resume", "--on-behalf-of", "dave"), {"action": "Resume", "onBehalfOf": "dave"}),
        (("approve",), {"action": "Approve", "revision": {"contentHash": HASHES[3]}}),
        (("approve", "v3", "-m", "read it"), {"action": "Approve", "reason": "read it"}),
        (("deny", "latest", "-m", "x"), {"action": "Deny", "revision": {"contentHash": HASHES[3]}}),
        (("check", "load"), {"action": "CheckItem", "item": "load", "revision": {"contentHash": HASHES[3]}}),
        (("check", "load", "--of", HASHES[3][:8]), {"action": "CheckItem", "revision": {"contentHash": HASHES[3]}}),
        (("promote",), {"action": "Promote"}),
        (("promote", "--full"), {"action": "Promote", "full": True}),
        (("abort", "-m", "drowning"), {"action": "Abort", "reason": "drowning"}),
        (("pause",), {"action": "Pause"}),
    ],
)
def test_each_decision_is_one_the_operator_takes(
    terminal: Terminal, words: tuple[str, ...], spec: dict[str, object]
) -> None:
    """What is made is valid by the operator's own rules, and says what was asked for; archived versions too."""
    terminal.answers("True", "Done", "It is done")
    result = terminal.keep(words[0], "high-cpu", *words[1:])
    assert result.exit_code == 0, result.output
    (made,) = terminal.created
    parsed = decision.parse_spec(made["spec"])
    assert not isinstance(parsed, Invalid), parsed
    assert decision.violations(parsed, made["metadata"]["name"]) == ()
    assert spec.items() <= made["spec"].items()
    assert made["spec"]["expect"] == {"activeRevision": 2}


@pytest.mark.parametrize("words", [("approve", "v1"), ("deny", "v2", "-m", "x"), ("check", "load", "--of", "v2")])
def test_who_read_an_older_version_is_told_before_anything_is_made(terminal: Terminal, words: tuple[str, ...]) -> None:
    """While somebody reads, another version comes: the answer names it and how to compare, and nothing is decided."""
    result = terminal.keep(words[0], "high-cpu", *words[1:])
    assert result.exit_code == 1
    assert f"but for v3 ({HASHES[3][:8]})" in result.stderr
    assert f"kubectl keep diff high-cpu {'v1' if 'v1' in words else 'v2'} v3" in result.stderr
    assert terminal.created == []


def test_what_is_approved_is_the_content_that_is_desired(terminal: Terminal) -> None:
    """A version that has no object yet is approved by the hash which the status tells; a broken spec has none to approve."""
    status = terminal.objects["workflows.keep-operator.dev/high-cpu"]["status"]
    status["desiredRevision"] = {"number": 4, "contentHash": "d" * 64}
    terminal.answers("True", "Done", "v4 is approved", action="Approve")
    assert terminal.keep("approve", "high-cpu").exit_code == 0
    assert terminal.created[0]["spec"]["revision"] == {"contentHash": "d" * 64}
    del status["desiredRevision"]
    terminal.objects["workflows.keep-operator.dev/high-cpu"]["status"] = status
    missing = terminal.keep("approve", "high-cpu")
    assert (missing.exit_code, "has no version" in missing.stderr) == (4, True)


def test_a_canary_is_decided_on_by_its_number(terminal: Terminal) -> None:
    """Who promotes what they see does not promote what has begun meanwhile."""
    terminal.objects["workflows.keep-operator.dev/high-cpu"]["status"]["canary"] = {"revision": 3, "weight": 10}
    terminal.answers("True", "Done", "v3 is at step 2 of 3, with 30 %", action="Promote", **{"from": 2, "to": 3})
    result = terminal.keep("promote", "high-cpu")
    assert result.stdout == "Done: v3 is at step 2 of 3, with 30 %\n"
    assert terminal.created[0]["spec"]["revision"] == {"number": 3}


@pytest.mark.parametrize(
    ("verdict", "code", "stdout", "stderr"),
    [
        (("True", "NoOp", "v1 is active already"), 0, "NoOp: v1 is active already\n", ""),
        (("False", "Stale", "v3 is active"), 1, "", "Error: Stale: v3 is active\n"),
        (("False", "Refused", "pinned"), 1, "", "Error: Refused: pinned\n"),
    ],
)
def test_the_exit_code_is_the_verdict(
    terminal: Terminal, verdict: tuple[str, str, str], code: int, stdout: str, stderr: str
) -> None:
    """A script knows whether it was carried out, and a person reads why not."""
    terminal.answers(*verdict)
    result = terminal.keep(*ROLLBACK)
    assert (result.exit_code, result.stdout) == (code, stdout)
    assert result.stderr.endswith(stderr)


def test_who_waits_in_vain_knows_what_is_left(terminal: Terminal) -> None:
    """Without an operator the decision stays; the message says so, and how to take it back."""
    result = terminal.keep(*ROLLBACK, "--timeout", "0.2")
    assert result.exit_code == 5
    (made,) = terminal.created
    assert "the operator has not seen it" in result.stderr
    assert f"kubectl delete wfd {made['metadata']['name']}" in result.stderr


def test_a_server_that_goes_away_meanwhile_is_waited_for(terminal: Terminal) -> None:
    """The decision is made already: only the time-out ends the waiting, or the lack of a right to watch."""
    terminal.failures["watch"] = "Unable to connect to the server: dial tcp 10.0.0.1:6443: connect: connection refused"
    result = terminal.keep(*ROLLBACK, "--timeout", "1.5")
    assert result.exit_code == 5
    assert len([call for call in terminal.calls if "--watch" in call]) > 1
    terminal.failures["watch"] = 'Error from server (Forbidden): User "carol" cannot watch'
    forbidden = terminal.keep(*ROLLBACK)
    assert forbidden.exit_code == 6
    assert 'is made, but cannot be watched: User "carol" cannot watch' in forbidden.stderr


def test_a_repeated_call_meets_its_first_decision(terminal: Terminal) -> None:
    """After a broken connection the same call makes nothing new, though another version is active by now."""
    assert terminal.keep(*ROLLBACK, "--request-id", "4711", "--no-wait").exit_code == 0
    terminal.objects["workflows.keep-operator.dev/high-cpu"]["status"]["activeRevision"] = {"number": 1}
    decisions = [key for key in terminal.objects if "decision" in key]
    terminal.answers("True", "Done", "v1 is active", **{"from": 2, "to": 1})
    again = terminal.keep(*ROLLBACK, "--request-id", "4711")
    assert (again.exit_code, again.stdout) == (0, "Done: v1 is active (v2 -> v1)\n")
    assert [key for key in terminal.objects if "decision" in key] == decisions
    other = terminal.keep("rollback", "high-cpu", "--reason", "another", "--request-id", "4711")
    assert other.exit_code == 6
    assert "take another --request-id" in other.stderr


def test_a_reason_is_asked_for(terminal: Terminal) -> None:
    """A script that forgets it learns so before anything is made."""
    result = terminal.keep("rollback", "high-cpu")
    assert result.exit_code == 2
    assert "Say why, with --reason" in result.stderr
    assert terminal.calls == []


def test_a_dry_run_prints_the_decision(terminal: Terminal) -> None:
    """For those who let Git make their decisions."""
    result = terminal.keep(*ROLLBACK, "--dry-run")
    assert yaml.safe_load(result.stdout)["kind"] == "WorkflowDecision"
    assert terminal.created == []


def test_scripts_get_the_decision_as_data(terminal: Terminal) -> None:
    """The object itself, with its verdict; or its name alone."""
    terminal.answers("True", "Done", "v1 is active")
    told = json.loads(terminal.keep(*ROLLBACK, "-o", "json").stdout)
    assert told["status"]["conditions"][0]["reason"] == "Done"
    name = terminal.keep(*ROLLBACK, "-o", "name", "--no-wait").stdout
    assert name.startswith("workflowdecision.keep-operator.dev/high-cpu-rollback-")


def test_a_right_that_is_missing_is_named(terminal: Terminal) -> None:
    """kubectl's own words say who may not do what."""
    terminal.failures["create"] = (
        'Error from server (Forbidden): User "carol" cannot create resource "workflowdecisions"'
    )
    result = terminal.keep(*ROLLBACK)
    assert result.exit_code == 6
    assert 'User "carol" cannot create resource' in result.stderr


# -- who decides --------------------------------------------------------------------------------------------------------


def _certificate(name: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()


def _token(subject: str) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"sub": subject}).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


def test_on_old_servers_the_credentials_say_who_decides(terminal: Terminal) -> None:
    """Before Kubernetes 1.27 no server says who one is: the certificate or the token does, and --as goes before both."""
    terminal.failures["auth whoami"] = "error: the selfsubjectreviews API is not enabled in the cluster"
    users = {
        "admin": {"client-certificate-data": _certificate("admin")},
        "system:serviceaccount:ci:deployer": {"token": _token("system:serviceaccount:ci:deployer")},
    }
    for name, user in users.items():
        terminal.config = {"users": [{"name": "x", "user": user}]}
        terminal.keep(*ROLLBACK, "--no-wait")
        assert terminal.created[0]["spec"]["actor"] == name
    terminal.keep(*ROLLBACK, "--no-wait", "--as", "dave")
    assert terminal.created[0]["spec"]["actor"] == "dave"


def test_who_cannot_be_known_names_himself(terminal: Terminal) -> None:
    """With an opaque token on an old server there is --actor; where the user is known it cannot be another."""
    terminal.failures["auth whoami"] = "error: the selfsubjectreviews API is not enabled in the cluster"
    terminal.config = {"users": [{"name": "x", "user": {"token": "opaque"}}]}
    result = terminal.keep(*ROLLBACK, "--no-wait")
    assert result.exit_code == 3
    assert "--actor" in result.stderr
    assert "opaque" not in result.output
    terminal.keep(*ROLLBACK, "--no-wait", "--actor", "erin")
    assert terminal.created[0]["spec"]["actor"] == "erin"
    del terminal.failures["auth whoami"]
    forged = terminal.keep(*ROLLBACK, "--no-wait", "--actor", "erin")
    assert forged.exit_code == 6
    assert "you are carol@example.com and not erin" in forged.stderr
    assert terminal.created == []


def test_a_decision_names_the_groups_of_its_author(terminal: Terminal) -> None:
    """Approval that is asked of a group can be given by its members, also by those who are in very many groups."""
    many = [f"team-{number}" for number in range(200)]
    terminal.groups = ["system:authenticated", "x" * 254, *many, "team-7"]
    approval = {"approvers": {"groups": ["team-199", "others"]}}
    terminal.objects["workflows.keep-operator.dev/high-cpu"]["spec"]["release"] = {"approval": approval}
    terminal.keep(*ROLLBACK, "--no-wait")
    (made,) = terminal.created
    named = made["spec"]["actorGroups"]
    assert named == ["team-199", "system:authenticated", *many[:126]]
    assert not isinstance(decision.parse_spec(made["spec"]), Invalid)


def test_groups_are_not_guessed(terminal: Terminal) -> None:
    """Where the server does not tell them none are named: it would refuse those that it does not know."""
    terminal.groups = ["team-a"]
    terminal.failures["auth whoami"] = "error: the selfsubjectreviews API is not enabled in the cluster"
    terminal.config = {"users": [{"name": "x", "user": {"client-certificate-data": _certificate("admin")}}]}
    terminal.keep(*ROLLBACK, "--no-wait")
    assert "actorGroups" not in terminal.created[0]["spec"]


# -- pins ---------------------------------------------------------------------------------------------------------------


def test_a_pin_is_a_patch_for_git(terminal: Terminal) -> None:
    """Nothing is written: what belongs into Git is printed, by hash since numbers differ between clusters."""
    result = terminal.keep("pin", "high-cpu", "v1")
    assert yaml.safe_load(result.stdout) == {"spec": {"release": {"pin": {"contentHash": HASHES[1]}}}}
    by_tag = terminal.keep("pin", "high-cpu", "production", "-o", "json")
    assert json.loads(by_tag.stdout) == {"spec": {"release": {"pin": {"tag": "production"}}}}
    removed = terminal.keep("pin", "high-cpu", "--remove")
    assert yaml.safe_load(removed.stdout) == {"spec": {"release": {"pin": None}}}
    assert [call for call in terminal.calls if call[0] != "get"] == []


def test_a_pin_is_written_when_asked(terminal: Terminal) -> None:
    """--write patches the Workflow, and takes off how it was pinned before."""
    result = terminal.keep("pin", "high-cpu", "v1", "--write")
    assert result.exit_code == 0, result.output
    (patched,) = [call for call in terminal.calls if call[0] == "patch"]
    (patch,) = [word.partition("=")[2] for word in patched if word.startswith("--patch=")]
    pin = {"revision": None, "contentHash": HASHES[1], "tag": None}
    assert json.loads(patch) == {"spec": {"release": {"pin": pin}}}
