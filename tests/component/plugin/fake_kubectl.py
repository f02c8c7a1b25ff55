"""A program called kubectl that the test plays: it answers from a file, and writes down how it was called.

It runs as a process of its own, with nothing but the standard library.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

WORLD = Path(os.environ["FAKE_KUBECTL"])


def main() -> None:
    """Answer one call."""
    world: dict[str, Any] = json.loads(WORLD.read_text(encoding="utf-8"))
    words = sys.argv[1:]
    given = sys.stdin.read() if "--filename=-" in words else None
    with (WORLD.parent / "calls").open("a", encoding="utf-8") as calls:
        calls.write(json.dumps({"words": words, "given": given}) + "\n")
    plain = [word for word in words if not word.startswith("--")]
    verb = " ".join(plain[:2]) if plain[0] in ("auth", "config") else "watch" if "--watch" in words else plain[0]
    if verb in world["hanging"]:
        signal.pause()
    kind = (
        f"get {plain[1].partition('.')[0]}" if plain[0] == "get" else "dry-run" if "--dry-run=server" in words else verb
    )
    for each in (verb, kind):
        if each in world["failures"]:
            fail(world["failures"][each])
    if "--dry-run=server" in words:
        would_be_stored(world, json.loads(given or ""))
    elif plain[0] in ("get", "create", "patch"):
        about_objects(world, plain, words, given)
    else:
        about_the_rest(world, plain, words)


def about_objects(world: dict[str, Any], plain: list[str], words: list[str], given: str | None) -> None:
    """Read them, make one."""
    match plain:
        case ["get", kind, name] if "--watch" in words:
            for each in world["watched"] or [world["objects"][f"{kind}/{name}"]]:
                say(json.dumps(each, indent=4))
        case ["get", kind, name]:
            say(json.dumps(found(world, kind, name)))
        case ["get", kind] if "--output=name" in words:
            say("\n".join(key for key in world["objects"] if key.startswith(f"{kind}/")))
        case ["get", kind]:
            wanted = [each for key, each in world["objects"].items() if key.startswith(f"{kind}/")]
            say(json.dumps({"kind": "List", "items": wanted}))
        case ["create"]:
            made = json.loads(given or "")
            key = f"{made['kind'].lower()}s.keep-operator.dev/{made['metadata']['name']}"
            if key in world["objects"]:
                fail(f'Error from server (AlreadyExists): "{made["metadata"]["name"]}" already exists')
            world["objects"][key] = made
            WORLD.write_text(json.dumps(world), encoding="utf-8")
            say(json.dumps(made))
        case ["patch", kind, name]:
            say(json.dumps(found(world, kind, name)))
        case _:
            fail(f"error: unknown command {words}")


def would_be_stored(world: dict[str, Any], thing: dict[str, Any]) -> None:
    """What the server would make of an object: what it has of it, with what was sent, and what it gives to all."""
    known = world["objects"].get(f"{thing['kind'].lower()}s.keep-operator.dev/{thing['metadata']['name']}", {})
    given = {"uid": "uid-of-the-server", "resourceVersion": "7", "creationTimestamp": "2026-11-25T00:00:00Z"}
    say(json.dumps({**known, **thing, "metadata": {**given, **known.get("metadata", {}), **thing["metadata"]}}))


def about_the_rest(world: dict[str, Any], plain: list[str], words: list[str]) -> None:
    """The user, the kubeconfig, the server, a port."""
    match plain:
        case ["auth", "whoami"]:
            say(json.dumps({"status": {"userInfo": {"username": world["user"], "groups": world["groups"]}}}))
        case ["auth", "can-i", verb, kind]:
            answer = "no" if f"{verb} {kind}" in world["denied"] else "yes"
            say(answer)
            sys.exit(0 if answer == "yes" else 1)
        case ["config", "view"]:
            say("monitoring c" if any("jsonpath" in word for word in words) else json.dumps(world["config"]))
        case ["version"]:
            say(json.dumps({"serverVersion": {"gitVersion": "v1.36.2"}}))
        case ["port-forward", *_]:
            say(f"Forwarding from 127.0.0.1:{world['port']} -> 8080")
            signal.pause()
        case _:
            fail(f"error: unknown command {words}")


def found(world: dict[str, Any], kind: str, name: str) -> Any:
    """The object of that name."""
    if f"{kind}/{name}" not in world["objects"]:
        fail(f'Error from server (NotFound): {kind} "{name}" not found')
    return world["objects"][f"{kind}/{name}"]


def say(words: str) -> None:
    """Answer."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def fail(words: str) -> NoReturn:
    """Complain as kubectl does."""
    sys.stderr.write(words + "\n")
    sys.exit(1)


main()
