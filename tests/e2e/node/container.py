"""Starts one command as a container: its own root, network, host name and user. A program of its own, started by `node.py`.

::

    JSON on stdin ──► new namespaces ──► root, mounts, network ──► another user, no rights ──► the command
                        outward: listens in the container, connects on the machine
                        inward:  listens on the machine, connects in the container

Works for root and, where user namespaces are allowed, for everybody else: files of the one who starts it look as if they
belonged to the container's user. Nothing but what is named is there: no home, no kubeconfig, no other process's files.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from functools import partial
from pathlib import Path
from typing import Any

NEW_MOUNTS, NEW_HOST_NAME, NEW_USERS, NEW_NETWORK = 0x00020000, 0x04000000, 0x10000000, 0x40000000
BIND, RECURSIVE, PRIVATE, DETACH = 0x1000, 0x4000, 0x40000, 2
SET_ATTRIBUTES, AT_FDCWD, AT_RECURSIVE, READ_ONLY = 442, -100, 0x8000, 1
SET_ADDRESS, SET_FLAGS, UP_AND_RUNNING = 0x8916, 0x8914, 0x41
DIE_WITH_PARENT, NO_NEW_PRIVILEGES = 1, 38
LIBC = ctypes.CDLL(None, use_errno=True)


def must(result: int, what: str) -> None:
    """Raise what the system says of a call that failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def become(user: int, group: int, outer: tuple[int, int], kinds: int) -> None:
    """New namespaces, in which the one who is `outer` outside of them is this user."""
    must(LIBC.unshare(NEW_USERS | kinds), "unshare")
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {outer[0]} 1"),
        ("gid_map", f"{group} {outer[1]} 1"),
    ):
        Path("/proc/self", name).write_text(line, encoding="ascii")


def mount(source: str, target: str, kind: str = "none", flags: int = 0) -> None:
    """One mount."""
    must(LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, None), f"mount {source} on {target}")


def attributes(path: str, *, set_: int = 0, clear: int = 0, flags: int = 0) -> None:
    """Change the attributes of a mount, and with AT_RECURSIVE of those below it."""
    wanted = struct.pack("QQQQ", set_, clear, 0, 0)
    must(LIBC.syscall(SET_ATTRIBUTES, AT_FDCWD, path.encode(), flags, wanted, len(wanted)), f"attributes of {path}")


def show(path: str, root: str, wanted: list[str]) -> None:
    """Let a path of the machine be seen below `root`, with room for what is to be mounted inside it."""
    inside = root + path
    if os.path.lexists(inside):
        return
    os.makedirs(os.path.dirname(inside), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), inside)
    elif not os.path.isdir(path):
        Path(inside).touch()
        mount(path, inside, flags=BIND)
    elif any(each.startswith(f"{path}/") and not os.path.exists(each) for each in wanted):
        os.mkdir(inside)
        for name in os.listdir(path):
            show(f"{path}/{name}", root, wanted)
    else:
        os.mkdir(inside)
        mount(path, inside, flags=BIND | RECURSIVE)


def furnish(given: dict[str, Any]) -> None:
    """The root that the container will see."""
    root, mounts = given["root"], given["mounts"]
    mount("none", "/", flags=RECURSIVE | PRIVATE)
    mount("root", root, "tmpfs")
    for name in ("tmp", "proc"):
        os.mkdir(f"{root}/{name}")
    for path in given["shown"]:
        show(path, root, [each["target"] for each in mounts])
    for each in mounts:
        target = root + each["target"]
        if not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.mkdir(target) if os.path.isdir(each["source"]) else Path(target).touch()
    attributes(root, set_=READ_ONLY, flags=AT_RECURSIVE)
    if not given["read_only"]:
        attributes(root, clear=READ_ONLY)
    mount("/proc", f"{root}/proc", flags=BIND | RECURSIVE)
    for each in mounts:
        mount(each["source"], root + each["target"], flags=BIND)
        if each["read_only"]:
            attributes(root + each["target"], set_=READ_ONLY)


def networked(addresses: list[str]) -> None:
    """Loopback, with these addresses besides its own."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH14x", b"lo", UP_AND_RUNNING))
        for number, address in enumerate(addresses):
            named = struct.pack("16sHH4s8x", f"lo:{number}".encode(), socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(any_socket, SET_ADDRESS, named)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side has enough."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def relay(pairs: list[tuple[socket.socket, tuple[str, int]]]) -> None:
    """Whoever comes to one of the sockets talks to the address beside it."""

    async def serve(address: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*address)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, back), carry(there, writer))
        back.close()
        writer.close()

    for listening, address in pairs:
        await asyncio.start_server(partial(serve, address), sock=listening)
    await asyncio.Event().wait()


def beside(parent: int, work: Any) -> None:
    """Do this in a process that ends with the container."""
    if os.fork() == 0:
        LIBC.prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() == parent:
            work()
        os._exit(1)


def main() -> None:
    """Become what standard input says."""
    given = json.load(sys.stdin)
    me = os.getpid()
    ours, theirs = socket.socketpair()

    def outward() -> None:
        ours.close()
        _, files, _, _ = socket.recv_fds(theirs, 1, len(given["outward"]))
        listening = [socket.socket(fileno=file) for file in files]
        asyncio.run(relay([(each, tuple(to["to"])) for each, to in zip(listening, given["outward"], strict=True)]))

    def inward() -> None:
        listening = [(socket.socket(fileno=each["file"]), ("127.0.0.1", each["port"])) for each in given["inward"]]
        asyncio.run(relay(listening))

    beside(me, outward)
    outer = (os.getuid(), os.getgid())
    become(0, 0, outer, NEW_MOUNTS | NEW_NETWORK | NEW_HOST_NAME)
    socket.sethostname(given["host_name"])
    networked([each["address"] for each in given["outward"] if each["address"] != "127.0.0.1"])
    listening = [socket.create_server((each["address"], each["port"])) for each in given["outward"]]
    socket.send_fds(ours, [b"!"], [each.fileno() for each in listening])
    beside(me, inward)
    for each in listening:
        each.close()
    for each in given["inward"]:
        os.close(each["file"])
    ours.close()
    theirs.close()
    furnish(given)
    os.chdir(given["root"])
    must(LIBC.pivot_root(b".", b"."), "pivot_root")  # a changed root alone would forbid further user namespaces
    must(LIBC.umount2(b".", DETACH), "umount")
    os.chdir("/")
    become(given["user"], given["group"], (0, 0), 0)
    must(LIBC.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no_new_privs")
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    try:
        os.execvpe(given["command"][0], given["command"], given["environment"])  # noqa: S606 -- that is what it is for
    except OSError as error:
        sys.exit(f"{given['command'][0]}: {error.strerror}")


if __name__ == "__main__":
    main()
