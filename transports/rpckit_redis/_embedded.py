"""The broker that `redis+stream://embedded` means: one server for all programs of a user on this machine.

It listens on a Unix socket in a folder of the user's and on nothing else, and keeps nothing on disk. Who serves
starts it where there is none; a client only attaches.

Invariant: whoever holds the lock beside the socket owns the server. The guard of the server holds that lock too,
so that it is free only after the server is gone, however its owner ended: no two servers ever share the socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rpckit._process import Guard, ProcessTree
from rpckit._redis_server import INSTALL, find_redis_server
from rpckit.errors import NotSent, UsageError
from rpckit.url import Host, Url

__all__ = ["EmbeddedRedis", "is_embedded", "socket_path"]

HOST = "embedded"
SOCKET = "redis.sock"
LOCK = "redis.lock"
LONGEST_PATH = 99  # bytes; sun_path holds 104 on macOS and the BSDs, 108 on Linux
START_TIMEOUT = 10.0  # seconds; 0.03 on two cores
PROBE_TIMEOUT = 1.0  # seconds for a PONG
POLL = 0.005  # seconds between two probes
SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "save": "",
    "appendonly": "no",
    "maxmemory-policy": "noeviction",  # a full server refuses; it never drops a request
}


def is_embedded(url: Url) -> bool:
    """Whether its host is `embedded`. With a port or over TLS that is a host like any other."""
    return url.scheme.partition("+")[0] == "redis" and url.hosts == (Host(HOST),)


def socket_path() -> Path:
    """The socket of this user's embedded broker, in a folder that exists and is safe.

    `$XDG_RUNTIME_DIR/rpckit` where that directory is ours, else `rpckit-<uid>` where temporary files are. Raises
    UsageError when the folder is somebody else's or others may write to it, and where there are no Unix sockets.
    """
    if not hasattr(os, "getuid"):
        raise UsageError("the embedded Redis needs Unix sockets, which this system has not: name a running Redis")
    folder = next(place for place in _places() if len(os.fsencode(place / SOCKET)) <= LONGEST_PATH)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check_private(folder)
    return folder / SOCKET


class EmbeddedRedis:
    """The embedded broker, for as long as it is needed here: `start()`, or `with`, then `path` to connect to.

    The first to start it owns it and starts the server; all others attach. The server ends with its owner, and
    everything in it. Then whoever calls `start()` first owns the next one, so call it before every reconnect. Who
    must never own it calls `attach()` instead. All methods block: in a coroutine run them in a thread. They may be
    called from any.
    """

    def __init__(self, *, start_timeout: float = START_TIMEOUT) -> None:
        self._start_timeout = start_timeout
        self._turn = threading.Lock()
        self._path: Path | None = None
        self._server: _OwnedServer | None = None
        self._stopped = False

    @property
    def path(self) -> Path:
        """The socket to connect to. Raises UsageError before `start()` and `attach()`."""
        if self._path is None:
            raise UsageError("the embedded Redis was not started")
        return self._path

    @property
    def owned(self) -> bool:
        """Whether the server is ours; False also when we attached to that of another."""
        return self._server is not None

    def start(self) -> None:
        """Return when the server answers: ours, started now or running, or that of another owner.

        Raises UsageError when no server is installed or the folder is not safe, NotSent when none answers in time
        and after `stop()`, which a start given up by a coroutine may still be behind.
        """
        with self._turn:
            if self._stopped:
                raise NotSent("the embedded Redis was stopped by this process")
            if self._server and not self._server.running():
                self._release()
            if self._server is None:
                self._path = socket_path()
                self._server = _own_or_attach(self._path, time.monotonic() + self._start_timeout)

    def attach(self) -> None:
        """Return when the server of another answers. Raises NotSent when there is none."""
        with self._turn:
            self._path = socket_path()
            if not _answers(self._path):
                raise NotSent(
                    f"no embedded Redis runs here ({self._path}), and only servers start one: "
                    "rpckit serve MODULE:SERVICE --url redis+stream://embedded"
                )

    def stop(self) -> None:
        """End the server if it is ours, for good. Does nothing when it was never started."""
        with self._turn:
            self._stopped = True
            self._release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _release(self) -> None:
        server, self._server = self._server, None
        if server:
            server.end()


class _OwnedServer:
    """A running server and the lock that makes it ours."""

    def __init__(self, program: str, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock
        scratch = Path(tempfile.mkdtemp(prefix="rpckit-redis-"))
        self._guard = Guard(scratch, holding=[lock])
        settings = {**SETTINGS, "unixsocket": str(path), "dir": str(scratch)}
        argv = [program, *(word for key, value in settings.items() for word in (f"--{key}", value))]
        env = {**os.environ, "LC_ALL": "C"}  # it refuses to start with a locale this machine does not have
        try:
            self._process = ProcessTree(argv, env=env, log=scratch / "output.log")
        except BaseException:
            self._guard.release()
            raise
        self._guard.watch(self._process.group)

    def running(self) -> bool:
        return self._process.running()

    def wait_ready(self, deadline: float) -> None:
        """Raises NotSent when it ended or does not answer before `deadline`."""
        while not _answers(self._path):
            if not self.running():
                raise NotSent(f"the embedded Redis ended while starting: {self._process.tail()}")
            if time.monotonic() > deadline:
                raise NotSent(f"the embedded Redis gave no answer in time: {self._process.tail()}")
            time.sleep(POLL)

    def end(self) -> None:
        """Kill it, for there is nothing to save, and only then give up the lock."""
        self._process.kill()
        self._path.unlink(missing_ok=True)
        self._guard.watch(None)
        self._guard.release()
        os.close(self._lock)


def _own_or_attach(path: Path, deadline: float) -> _OwnedServer | None:
    """Our server, which answers; None when that of another owner does."""
    while True:
        lock = _try_lock(path.with_name(LOCK))
        if lock is not None:
            return _start_server(path, lock, deadline)
        if _answers(path):
            return None
        if time.monotonic() > deadline:
            raise NotSent(f"another program holds {path.with_name(LOCK)}, and its embedded Redis gives no answer")
        time.sleep(POLL)


def _start_server(path: Path, lock: int, deadline: float) -> _OwnedServer:
    try:
        program = find_redis_server()
        if program is None:
            raise UsageError(f"the embedded Redis found no server to start: {INSTALL}")
        server = _OwnedServer(program, path, lock)
    except BaseException:
        os.close(lock)
        raise
    try:
        server.wait_ready(deadline)
    except BaseException:
        server.end()
        raise
    return server


def _try_lock(file: Path) -> int | None:
    """A descriptor that holds the lock until it is closed everywhere; None when somebody else holds it."""
    import fcntl  # here, as not every system has it

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_TIMEOUT)
        probe.connect(str(path))
        probe.sendall(b"PING\r\n")
        return probe.recv(16) == b"+PONG\r\n"
    return False


def _places() -> list[Path]:
    """The folders to choose from, the best first; the path of the last is never too long."""
    runtime, own = os.environ.get("XDG_RUNTIME_DIR", ""), f"rpckit-{os.getuid()}"
    # After su and sudo the variable may still name the directory of the other user.
    ours = os.path.isabs(runtime) and os.path.isdir(runtime) and os.stat(runtime).st_uid == os.getuid()
    return [*([Path(runtime, "rpckit")] if ours else []), Path(tempfile.gettempdir(), own), Path("/tmp", own)]


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    problem = None
    if not stat.S_ISDIR(found.st_mode):
        problem = "is not a directory"
    elif found.st_uid != os.getuid():
        problem = f"belongs to user {found.st_uid}"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = "can be written to by others"
    if problem:
        raise UsageError(
            f"the embedded Redis does not use {folder}, which {problem}: remove it, or set XDG_RUNTIME_DIR "
            "to a directory of your own"
        )
