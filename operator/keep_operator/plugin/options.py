"""What every command takes: which cluster, which namespace, whose rights, and what to print."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from keep_operator.plugin import ends, view
from keep_operator.plugin.kubectl import Kubectl
from keep_operator.plugin.reach import SERVICE, Reach
from keep_operator.resources.kinds import WORKFLOWS

Command = TypeVar("Command", bound=Callable[..., Any])

# kubectl's own flags, passed on to it.
_CLUSTER: Final = (
    (("-n", "--namespace"), "NAME", "The namespace, instead of the context's own."),
    (("--context",), "NAME", "The context of the kubeconfig."),
    (("--kubeconfig",), "FILE", "The kubeconfig."),
    (("--as", "as_"), "USER", "Act as this user."),
    (("--as-group",), "GROUP", "Act as a member of this group; may be given several times."),
    (("--request-timeout",), "TIME", "Wait for each answer of the cluster at most so long, such as 10s."),
)
FLAGS: Final = tuple(max(names, key=len).rstrip("_") for names, _, _ in _CLUSTER)
_KEPT: Final = "keep_operator.plugin.flags"


def cluster(command: Command) -> Command:
    """Adds the flags that are passed on to kubectl, in whatever place they are given."""

    def keep(context: click.Context, option: click.Parameter, value: Any) -> None:
        flag = max(option.opts, key=len)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None:
                kept: dict[str, list[str]] = context.find_root().meta.setdefault(_KEPT, {})
                kept.setdefault(flag, []).append(f"{flag}={each}")

    for names, metavar, told in reversed(_CLUSTER):
        command = click.option(
            *names,
            metavar=metavar,
            multiple="--as-group" in names,
            expose_value=False,
            callback=keep,
            help=told,
        )(command)
    return command


def kubectl() -> Kubectl:
    """kubectl with the flags that this command was given; of one that was given twice the last counts."""
    kept: dict[str, list[str]] = click.get_current_context().find_root().meta.get(_KEPT, {})
    return Kubectl(
        tuple(each for flag, given in kept.items() for each in (given if flag == "--as-group" else given[-1:]))
    )


def namespace() -> str | None:
    """The namespace that was asked for; None: the context's own."""
    flags = kubectl().flags
    return next((flag.partition("=")[2] for flag in flags if flag.startswith("--namespace=")), None)


def output(*forms: str, default: str = "table") -> Callable[[Command], Command]:
    """Adds ``-o``, as ``form``."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice([default, *forms]),
        default=default,
        show_default=True,
        help="What to print; all but the default is for scripts.",
    )


def read_api(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds how the read API is reached; the command gets it as ``reach``."""

    @wraps(command)
    def reaching(api_url: str | None, api_service: str, api_token: str | None, **given: Any) -> Any:
        return command(reach=Reach(api_url, api_service, api_token), **given)

    takes: Callable[..., Any] = reaching
    for option in reversed(
        (
            click.option(
                "--api-url",
                envvar="KEEP_OPERATOR_API_URL",
                metavar="URL",
                help="Where `keep-operator console` is reached; left out: a port-forward to its Service.",
            ),
            click.option(
                "--api-service",
                envvar="KEEP_OPERATOR_API_SERVICE",
                metavar="NAMESPACE/NAME",
                default=SERVICE,
                show_default=True,
                help="The Service that is forwarded to.",
            ),
            click.option(
                "--api-token",
                envvar="KEEP_OPERATOR_API_TOKEN",
                metavar="TOKEN",
                help="The bearer token for it; left out: the one of the kubeconfig.",
            ),
        )
    ):
        takes = option(takes)
    return takes


def workflows(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the workflows in the namespace, for the shell."""
    del parameter
    with context:
        try:
            names = kubectl().text("get", f"{WORKFLOWS.plural}.{WORKFLOWS.group}", "--output=name").split()
        except ends.Failure:
            return []  # a shell that completes has no place for a complaint
    found = (each.partition("/")[2] for each in names)
    return [CompletionItem(each) for each in found if each.startswith(incomplete)]


def versions(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What names a version of the workflow that is already on the line, for the shell."""
    del parameter
    # Behind an option that has no value yet click gives no argument its name.
    workflow = context.params.get("workflow") or next(iter(context.args), None)
    with context:
        try:
            seen = view.read(kubectl(), workflow) if workflow else None
        except ends.Failure:
            seen = None
    if seen is None:
        return []
    told = [(word, "") for word in ("active", "desired", "latest", "previous")]
    told += [(tag, f"v{each.number}") for each in seen.versions for tag in each.tags]
    told += [(f"v{each.number}", f"{each.short_hash} {seen.state(each)}".strip()) for each in seen.versions]
    return [CompletionItem(word, help=about) for word, about in told if word.startswith(incomplete)]


def items(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The items of the release checklist that are known of the workflow on the line, for the shell."""
    del parameter
    workflow = context.params.get("workflow") or next(iter(context.args), None)
    with context:
        try:
            seen = view.read(kubectl(), workflow) if workflow else None
        except ends.Failure:
            seen = None
    if seen is None:
        return []
    own = (seen.workflow["spec"].get("release") or {}).get("checklist") or ()
    told = {each["id"]: each["title"] for each in own if "auto" not in each}
    return [CompletionItem(name, help=title) for name, title in told.items() if name.startswith(incomplete)]
