"""Replies: published, and kept while they cannot be, until their callers have stopped waiting.

Small ones of one tick to one client leave in a bundle: less to send, and less to read on the other side.
"""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import Any, cast

from rpckit.bundle import Bundles
from rpckit.errors import ConnectionLost
from rpckit.ids import new_id
from rpckit.message import Message
from rpckit.transport import OnGone

from ._connection import Session
from ._envelope import write
from ._errors import is_error
from ._keys import BUNDLE_INBOXES, PlaceKind, stored_at, stored_key
from ._link import Link, pack, pack_head
from ._scripts import ALLOW_OOM

__all__ = ["Replier"]

log = logging.getLogger(__name__)

REPLY_KEPT_S = 30.0  # seconds a reply is kept for a caller that set no deadline
MAX_KEPT = 16_384  # replies
MAX_KEPT_BYTES = 8 * 1024 * 1024
MAX_HEADS = 4096  # inboxes remembered; then forgotten all at once
MAX_REMEMBERED = 256  # characters of one: strangers choose theirs
STORED_S = 3_600  # seconds a stored reply waits for its caller
LATE_MS = 10_000  # milliseconds that a reply may arrive later than it may be sent again
STORED_MAX = 1_000  # replies in one list or stream, unless the handler says otherwise


class Replier:
    """A reply whose publishing Redis has not answered is published again in the next session; it is stored once."""

    def __init__(self, *, on_gone: OnGone) -> None:
        self._on_gone = on_gone
        self._session: Session | None = None
        self._kept: deque[tuple[float, str, bytes]] = deque()
        self._kept_bytes = 0
        self._heads: dict[str, bytes] = {}  # of the commands to each inbox: laying one out costs as much as the reply
        self._bundles = Bundles(BUNDLE_INBOXES, self._publish)

    def attach(self, session: Session) -> None:
        """A new session: what the old one may not have delivered goes out."""
        self._session = session
        kept, self._kept, self._kept_bytes = self._kept, deque(), 0
        now = session.main.loop.time()
        for until, address, command in kept:
            if until > now:
                session.main.send(command, partial(self._sent, until, address, command))

    def detach(self) -> None:
        self._session = None

    def reply(self, message: Message, arrived_at: float, limit_ms: int | None) -> None:
        """Publish to `message.address`. Raises `UsageError`.

        It is kept while its caller waits: `limit_ms` from when the request arrived, on the loop's clock.
        """
        address = message.address
        if not address:
            return
        until = arrived_at + (REPLY_KEPT_S if limit_ms is None else limit_ms / 1000)
        session = self._session
        if session is None or not session.alive:
            self._keep(until, address, self._command(message, until - arrived_at))
        elif not self._bundles.take(session.main, message, until):
            self._publish(session.main, message, until)

    def _publish(self, link: Link, message: Message, until: float) -> None:
        command = self._command(message, until - link.last_read)
        link.send(command, partial(self._sent, until, message.address, command))

    def _command(self, message: Message, seconds: float) -> bytes:
        """It may be sent again, as it is, for so many seconds."""
        head = self._heads.get(message.address) or self._head(message.address)
        if not head:
            return _storing(message, seconds)
        data = write(message)
        return b"%b%d\r\n%b\r\n" % (head, len(data), data)

    def _head(self, address: str) -> bytes:
        """What each reply to one inbox begins with; nothing for a place where replies are stored."""
        head = b"" if stored_at(address) else pack_head("PUBLISH", address)
        if len(address) <= MAX_REMEMBERED:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            self._heads[address] = head
        return head

    def _sent(self, until: float, address: str, command: bytes, count: Any) -> None:
        if count == 0:
            self._on_gone(address)
        elif isinstance(count, ConnectionLost):
            self._keep(until, address, command)
        elif is_error(count):
            log.warning("a reply was not taken: %s", count)

    def _keep(self, until: float, address: str, command: bytes) -> None:
        self._kept.append((until, address, command))
        self._kept_bytes += len(command)
        while len(self._kept) > MAX_KEPT or self._kept_bytes > MAX_KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft()[2])


def _storing(message: Message, seconds: float) -> bytes:
    kind, key = cast(tuple[PlaceKind, str], stored_at(message.address))
    most = message.maxlen or STORED_MAX
    once_ms = int(max(0.0, seconds) * 1000) + LATE_MS
    return pack("EVAL", _STORE[kind], 2, key, stored_key(new_id()), write(message), most, STORED_S, once_ms)


# Also where Redis is full: its request is settled behind it, and would have run for nothing.
_ONCE = ALLOW_OOM + "if not redis.call('SET', KEYS[2], 1, 'NX', 'PX', ARGV[4]) then return 1 end\n"
_STORE = {
    PlaceKind.LIST: _ONCE
    + """
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -ARGV[2], -1)
return redis.call('EXPIRE', KEYS[1], ARGV[3])
""",
    PlaceKind.STREAM: _ONCE
    + """
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', '__data__', ARGV[1])
return redis.call('EXPIRE', KEYS[1], ARGV[3])
""",
}
