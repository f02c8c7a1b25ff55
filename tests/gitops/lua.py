"""Argo CD's scripts as Argo CD runs them: Lua 5.1 with base, package and table, and `os.time` and `os.date` on request.

There is no string and no math library, and no `os` before `require("os")`, as for every script of the ConfigMap argocd-cm.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from lupa.luajit21 import LuaRuntime  # the one of lupa's that knows `goto`, which Argo CD's does

HEALTHS: Final = ("Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown")
SCRIPTS: Final = Path(__file__).parents[2] / "charts" / "keep-operator" / "argocd"
RELAXED: Final = ("local relaxed = false", "local relaxed = true")
# What LuaJIT has and Argo CD's interpreter has not.
_NARROW: Final = """
local time, date, frozen = os.time, os.date, frozen
for _, name in ipairs({"string", "math", "io", "os", "debug", "coroutine", "jit", "bit", "ffi", "python"}) do
  package.loaded[name] = nil
  _G[name] = nil
end
getmetatable("").__index = nil
package.loaders = { package.loaders[1] }
package.preload = { os = function() return { time = frozen and function() return frozen end or time, date = date } end }
"""


class Loader(yaml.SafeLoader):
    """Reads times as texts, as the API server's JSON has them."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path) -> Any:
    """One YAML document."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader


def health(script: str, obj: Mapping[str, Any]) -> dict[str, str]:
    """What Argo CD shows for an object: ``status`` and ``message``."""
    found = _python(_run(script, obj))
    assert isinstance(found, dict), found
    if found.get("status") not in HEALTHS:
        return {"status": "Unknown", "message": "Lua returned an invalid health status"}
    return {"status": found["status"], "message": found.get("message") or ""}


def discover(script: str, obj: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The actions that Argo CD offers for an object, by name."""
    found = _python(_run(script, obj))
    return found if isinstance(found, dict) else {}


def act(
    script: str, obj: Mapping[str, Any], parameters: Mapping[str, str] | None = None, *, frozen_s: int | None = None
) -> list[dict[str, Any]]:
    """What an action asks of Argo CD: a list of ``operation`` and ``resource``; ``frozen_s`` is the time it is told."""
    found = _python(_run(script, obj, parameters or {}, frozen_s))
    assert isinstance(found, list), found
    return found


def of(kind: str, *path: str) -> str:
    """A script of ours, such as `of("Workflow", "actions", "discovery.lua")`."""
    return SCRIPTS.joinpath(kind, *path).read_text(encoding="utf-8")


def _run(script: str, obj: Mapping[str, Any], parameters: Mapping[str, str] = {}, frozen_s: int | None = None) -> Any:
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    lua.globals().frozen = frozen_s
    lua.execute(_NARROW)
    lua.globals().frozen = None
    lua.globals().actionParams = _lua(lua, parameters)
    lua.globals().obj = _lua(lua, obj)
    return lua.execute(script)


def _lua(lua: Any, value: Any) -> Any:
    match value:
        case Mapping():
            return lua.table_from({key: _lua(lua, each) for key, each in value.items() if each is not None})
        case str():
            return value
        case Sequence():
            return lua.table_from([_lua(lua, each) for each in value])
        case _:
            return value


def _python(value: Any) -> Any:
    """As Argo CD encodes what a script returns: a table with 1, 2, 3 … is a list, and so is an empty one."""
    if not hasattr(value, "items"):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    entries = {key: _python(each) for key, each in value.items()}
    if all(isinstance(key, int) for key in entries):
        return [entries[key] for key in sorted(entries)]
    return entries
