"""One connection to Redis: RESP3, parsed by hiredis, with commands, their replies and what is pushed.

redis-py's client retries writes, resubscribes in silence and can freeze the loop under a pulled
cable, so none of it stands between us and the socket. Its invariant: each command gets exactly one
reply or the loss of the connection, in order; what is sent in one tick leaves in as few writes as
its convoys allow, and what is gathered in one as few commands; however the connection ends, it ends in
one call of `on_lost`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
from hiredis import PushNotification

from rpckit.errors import ConnectionLost
from rpckit.readbuffer import ReadBuffer
from rpckit.tickwriter import TickWriter

from ._errors import is_error, kind_of
from ._scripts import Script

__all__ = ["Link", "OnPatternPush", "OnReply", "pack", "pack_head"]

log = logging.getLogger(__name__)

OnReply = Callable[[Any], None]  # a reply, an error of Redis, or a ConnectionLost
OnPush = Callable[[bytes, bytes], None]  # channel, message
OnPatternPush = Callable[[bytes, bytes, bytes], None]  # pattern, channel, message


def pack(*words: bytes | str | int) -> bytes:
    """A command as Redis reads it."""
    packed: bytes = hiredis.pack_command(cast(Any, words))  # its annotation takes one word
    return packed


def pack_head(*words: bytes | str | int) -> bytes:
    """What a command with one more word begins with, up to that word's length: `b"%b%d\\r\\n%b\\r\\n"` completes it."""
    return pack(*words, b"").removesuffix(b"0\r\n\r\n")


class Link(TickWriter, ReadBuffer):
    """Made by `loop.create_connection`. Callbacks are plain calls that return at once."""

    def __init__(self) -> None:
        super().__init__()
        self.on_lost: Callable[[str], None] = _ignore
        self.on_push: OnPush = _ignore
        self.on_pattern_push: OnPatternPush = _ignore
        self.close_reason = ""
        self.id = 0  # Redis's number of this connection
        self._reader = hiredis.Reader(notEnoughData=_NOT_ENOUGH)
        self._awaiting: deque[OnReply] = deque()

    # -- sending ------------------------------------------------------------------------------

    @property
    def awaiting(self) -> int:
        """Commands without their reply yet."""
        return len(self._awaiting)

    def send(self, command: bytes, on_reply: OnReply) -> None:
        """Send with others of this tick, or at once if the tick before had nothing else to send."""
        if self._lost:
            on_reply(self._loss())
            return
        self._awaiting.append(on_reply)
        self.write(command)

    def send_together(self, commands: Sequence[tuple[bytes, OnReply]]) -> None:
        """As `send`, so that nothing leaves between them."""
        if self._lost:
            for _, on_reply in commands:
                on_reply(self._loss())
            return
        self._awaiting.extend([on_reply for _, on_reply in commands])
        self.write(b"".join([command for command, _ in commands]))

    def run(self, script: Script, keys: tuple[str, ...], args: tuple[bytes | str | int, ...], reply: OnReply) -> None:
        """Run a script, by its digest; in full where Redis has forgotten it."""

        def known(answer: Any) -> None:
            if is_error(answer) and kind_of(answer) == "NOSCRIPT":
                self.send(pack("EVAL", script.source, len(keys), *keys, *args), reply)
            else:
                reply(answer)

        self.send(pack("EVALSHA", script.sha, len(keys), *keys, *args), known)

    async def ask(self, *words: bytes | str | int) -> Any:
        """The reply to a command. Raises `hiredis.ReplyError` or `ConnectionLost`. Cancelling is safe."""
        answer: asyncio.Future[Any] = self.loop.create_future()
        self.send(pack(*words), lambda reply: _tell(answer, reply))
        return await answer

    async def ask_script(self, script: Script, keys: tuple[str, ...], *args: bytes | str | int) -> Any:
        """The result of a script, as `ask`."""
        answer: asyncio.Future[Any] = self.loop.create_future()
        self.run(script, keys, args, lambda reply: _tell(answer, reply))
        return await answer

    def handing(
        self, take: Callable[[Any], None], too_late: OnReply | None = None
    ) -> tuple[OnReply, asyncio.Future[None]]:
        """For a reply that `take` gets as soon as it is read, and the future that is done then, or raises as `ask`.

        A tick sooner than `ask`. Once the future is cancelled, nothing is taken any more: `too_late` gets it.
        """
        taken: asyncio.Future[None] = self.loop.create_future()

        def on_reply(reply: Any) -> None:
            if is_error(reply):
                _tell(taken, reply)
                return
            if taken.done():
                if too_late is not None:
                    too_late(reply)
                return
            taken.set_result(None)  # first, in case that taking fails
            take(reply)

        return on_reply, taken

    async def subscribe(self, channel: str) -> None:
        """Returns when Redis has confirmed it: what is published from then on comes. Raises as `ask`."""
        await self.ask("SUBSCRIBE", channel)

    async def unsubscribe(self, channel: str) -> None:
        """Returns when nothing more can come."""
        await self.ask("UNSUBSCRIBE", channel)

    async def subscribe_pattern(self, glob: str) -> None:
        """As `subscribe`, to every channel that matches."""
        await self.ask("PSUBSCRIBE", glob)

    async def unsubscribe_pattern(self, glob: str) -> None:
        await self.ask("PUNSUBSCRIBE", glob)

    # -- life ---------------------------------------------------------------------------------

    def abort(self, why: str) -> None:
        """End the connection now. Safe from anywhere, any number of times; the first reason stays."""
        self.close_reason = self.close_reason or why
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """End it when everything is sent."""
        self._flush()
        self.close_reason = self.close_reason or "closed by this process"
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._end_writing():
            return
        self.close_reason = self.close_reason or f"the connection was lost ({error or 'closed by Redis'})"
        awaiting, self._awaiting = self._awaiting, deque()
        try:
            for on_reply in awaiting:
                on_reply(self._loss())
        finally:
            self.on_lost(self.close_reason)

    def _loss(self) -> ConnectionLost:
        return ConnectionLost(self.close_reason)

    # -- receiving ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.heard()
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOT_ENOUGH:
                if type(reply) is not PushNotification:
                    (self._awaiting.popleft() if self._awaiting else self._unasked)(reply)
                elif reply[0] == b"message":
                    self.on_push(reply[1], reply[2])
                else:
                    self._pushed(reply)
        except hiredis.ProtocolError as error:
            self.abort(f"what came in is not from Redis: {error}; is it Redis, and well?")
        except Exception as error:  # a callback of ours failed: whoever is answered wrongly once would be so for ever
            if not self.close_reason:
                log.exception("what came in could not be read; the connection is given up")
            self.abort(f"what came in could not be read: {error}")

    def _unasked(self, reply: Any) -> None:
        """Such as a refusal of the connection, before there was a command."""
        self.abort(f"Redis said, without being asked: {reply!s:.200}")

    def _pushed(self, push: Any) -> None:
        if push[0] == b"pmessage":
            self.on_pattern_push(push[1], push[2], push[3])
        elif push[0] in _CONFIRMATIONS:  # stands where the reply to the command would
            self._awaiting.popleft()(None)


def _tell(answer: asyncio.Future[Any], reply: Any) -> None:
    if answer.done():
        return
    if is_error(reply):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)


def _ignore(*_: object) -> None:
    """For what nobody listens to yet."""


_NOT_ENOUGH = object()
_CONFIRMATIONS = (b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe")
