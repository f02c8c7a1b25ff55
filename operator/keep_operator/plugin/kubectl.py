"""The cluster as the user's own kubectl sees it: kubeconfig, contexts, sign-in plugins and impersonation are its business.

Each question is a process of its own, some 60 ms. Questions that do not depend on each other are asked at the same time.
kubectl's words are passed on as they are; only the kind of its failure is told apart, for the exit code.
"""

import codecs
import json
import re
import subprocess
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any, Final

from keep_operator.plugin import ends
from keep_operator.resources.kinds import Resource

Json = dict[str, Any]

# kubectl has no codes for its failures; these words stand in them since many versions, and so has the API's reason,
# in brackets after "Error from server".
_KINDS: Final[tuple[tuple[type[ends.Failure], tuple[str, ...]], ...]] = (
    (ends.Exists, ("(AlreadyExists)",)),
    (ends.Missing, ("(NotFound)",)),
    (
        ends.Refused,
        (
            "(Forbidden)",
            "(Invalid)",
            "(BadRequest)",
            "(Conflict)",
            " is invalid: ",
            "denied the request",
            "is forbidden",
        ),
    ),
)
_SERVERS_WORD: Final = re.compile(r"^Error from server \([A-Za-z]+\): ")
_NOT_INSTALLED: Final = ("doesn't have a resource type", "no matches for kind", "could not find the requested resource")


# What kubectl itself uses where there is no kubeconfig.
POD: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def in_a_pod(name: str) -> str:
    """The ``token`` or ``namespace`` of this pod's service account; empty where this is none."""
    try:
        return (POD / name).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with the flags that say which cluster, whose rights, and which namespace."""

    flags: tuple[str, ...] = ()

    def get(self, resource: Resource, name: str) -> Json:
        """One object. Raises Missing."""
        (found,) = self.all(self.asking(resource, name))
        return found

    def list(self, resource: Resource, *selection: str) -> tuple[Json, ...]:
        """The objects that flags like ``--selector=…`` choose."""
        (found,) = self.all(self.asking(resource, *selection))
        return tuple(found["items"])

    @staticmethod
    def asking(resource: Resource, *what: str) -> tuple[str, ...]:
        """The arguments of a question for `all`."""
        kind = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
        return ("get", kind, *what, "--output=json")

    def all(self, *questions: Sequence[str]) -> tuple[Json, ...]:
        """The answers to several questions that are asked at once. Raises the first failure."""
        answers = self.tries(*questions)
        for answer in answers:
            if isinstance(answer, ends.Failure):
                raise answer
        return tuple(answer for answer in answers if not isinstance(answer, ends.Failure))

    def tries(self, *questions: Sequence[str]) -> tuple[Json | ends.Failure, ...]:
        """As `all`, with the failure in the place of the answer."""
        asked = [self.start(question) for question in questions]
        found: list[Json | ends.Failure] = []
        for process in asked:
            try:
                found.append(_read(_end(process, None)))
            except ends.Failure as failure:
                found.append(failure)
        return tuple(found)

    def text(self, *arguments: str, given: str | None = None) -> str:
        """What kubectl prints, with ``given`` on its standard input."""
        return _end(self.start(arguments, reads=given is not None), given)

    def namespace(self) -> str:
        """Where it looks: what the flags say, else the context, else the pod that this is, else `default`."""
        given = [flag.partition("=")[2] for flag in self.flags if flag.startswith("--namespace=")]
        if given:
            return given[0]
        stated = self.text("config", "view", "--minify", "--output=jsonpath={..namespace} {.clusters[*].name}")
        namespace, _, clusters = stated.partition(" ")
        return namespace or ("" if clusters else in_a_pod("namespace")) or "default"

    def allowed(self, verb: str, kind: str) -> bool | None:
        """Whether the user may do it there; None: the server has no such kind."""
        done = self.start(("auth", "can-i", verb, kind))
        printed, complaint = (each.decode(errors="replace") for each in done.communicate())
        if any(sign in complaint for sign in (*_NOT_INSTALLED, "the server doesn't have")):
            return None
        if printed.strip() not in ("yes", "no"):
            raise _failure(complaint.strip())
        return printed.strip() == "yes"

    def create(self, manifest: Mapping[str, Any]) -> Json:
        """Make an object. Raises Exists, Refused."""
        return _read(self.text("create", "--filename=-", "--output=json", given=json.dumps(manifest)))

    def would(self, verb: str, manifest: Mapping[str, Any]) -> Json:
        """What would be stored if the object were sent so: defaults, validation and admission are the server's. Raises Refused."""
        arguments = (verb, "--dry-run=server", "--filename=-", "--output=json")
        return _read(self.text(*arguments, given=json.dumps(manifest)))

    def within(self, namespace: str | None) -> "Kubectl":
        """The same in another namespace; None: in none, as for kinds that have none, and for all of them."""
        flags = tuple(each for each in self.flags if not each.startswith("--namespace="))
        return Kubectl(flags if namespace is None else (*flags, f"--namespace={namespace}"))

    def merge(self, resource: Resource, name: str, patch: Mapping[str, Any]) -> Json:
        """Merge a patch into an object."""
        target = f"{resource.plural}.{resource.group}"
        arguments = ("patch", target, name, "--type=merge", f"--patch={json.dumps(patch)}", "--output=json")
        return _read(self.text(*arguments, "--field-manager=kubectl-keep"))

    def watch(self, resource: Resource, name: str, timeout_s: float) -> Generator[Json, None, None]:
        """The object now, and after each change, until the time is over; ends earlier where the server ends the watch.

        Raises what kubectl failed with.
        """
        process = self.start((*self.asking(resource, name), "--watch"))
        assert process.stdout is not None
        timer = Timer(timeout_s, process.kill)
        timer.daemon = True  # who interrupts does not wait for it
        timer.start()
        # A character may be cut in two by a read, as an object may.
        decoded, decoder, text = codecs.getincrementaldecoder("utf-8")("replace"), json.JSONDecoder(), ""
        try:
            while part := process.stdout.read1():  # type: ignore[attr-defined]
                text += decoded.decode(part)
                while text := text.lstrip():
                    try:
                        found, end = decoder.raw_decode(text)
                    except ValueError:
                        break  # the rest is under way
                    text = text[end:]
                    yield found
            if process.wait() > 0:  # below 0 it was killed, when the time was over
                assert process.stderr is not None
                raise _failure(process.stderr.read().decode(errors="replace").strip())
        finally:
            timer.cancel()
            process.kill()
            process.communicate()

    def start(self, arguments: Sequence[str], *, reads: bool = False) -> "subprocess.Popen[bytes]":
        """A process of kubectl, with its output in pipes. Raises Unreachable."""
        try:
            return subprocess.Popen(
                ["kubectl", *arguments, *self.flags],
                stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise ends.Unreachable(
                f"kubectl cannot be run ({error.strerror}): install it, or put its folder on PATH"
            ) from None


def _end(process: "subprocess.Popen[bytes]", given: str | None) -> str:
    printed, complaint = process.communicate(None if given is None else given.encode())
    if process.returncode == 0:
        return printed.decode()
    raise _failure(complaint.decode(errors="replace").strip() or f"kubectl ended with {process.returncode}")


def _failure(words: str) -> ends.Failure:
    if any(each in words for each in _NOT_INSTALLED):
        return ends.Unreachable(
            f"{words}\nIs keep-operator installed there? Its kinds come with: keep-operator crds apply"
        )
    kind = next((kind for kind, signs in _KINDS if any(sign in words for sign in signs)), ends.Unreachable)
    return kind(_SERVERS_WORD.sub("", words).removeprefix("error: "))


def _read(text: str) -> Json:
    try:
        answer = json.loads(text)
    except ValueError:
        raise ends.Unreachable(f"kubectl answered no JSON: {text[:200]!r}") from None
    if not isinstance(answer, dict):
        raise ends.Unreachable(f"kubectl answered no object: {text[:200]!r}")
    return answer
