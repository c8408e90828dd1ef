"""The attempts of calls: each is sent once, and waits in the table of those that are pending.

Its invariant: an attempt is added to the table before it is sent, leaves it exactly once, and ends by its call's
deadline with a reply or one error of `rpckit.errors`, whatever breaks. Work that nobody waits for is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable

from rpckit.call import Call, cancel_topic, check_size, in_view_of_earlier_attempts, named, read_error
from rpckit.connecting import Connecting, Own
from rpckit.deadline import Deadline
from rpckit.errors import BadReply, ConnectionLost, DeadlineExceeded, NotSent, RpcError
from rpckit.ids import new_id
from rpckit.message import FAULT, NATIVE, REQUEST, Kind, Message
from rpckit.nesting import await_lending
from rpckit.pending import PendingCalls
from rpckit.timer import TableTimer
from rpckit.transport import Transport
from rpckit.waiter import Waiter

__all__ = ["Attempts", "Pending"]

log = logging.getLogger(__name__)

CANCELS_S = 1.0  # seconds that the cancels of calls abandoned just before closing get to leave

Pending = PendingCalls[Waiter[Message]]


class Attempts:
    """A client's, over one transport, in the event loop it is bound to.

    own:      starts a task that ends with the client.
    on_other: gets what comes to the inbox and no call waits for.
    """

    def __init__(
        self,
        transport: Transport,
        pending: Pending,
        connecting: Connecting,
        *,
        max_body: int,
        send_wait: float,
        own: Own,
        on_other: Callable[[Message], None],
    ) -> None:
        self._transport = transport
        self._pending = pending
        self._connecting = connecting
        self._ready = connecting.ready
        self._gate = connecting.gate
        self._max_body = max_body
        self._send_wait = send_wait
        self._own = own
        self._on_other = on_other
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: TableTimer | None = None
        self._cancels: deque[Message] = deque(maxlen=pending.limit)
        self._cancelling: asyncio.Task[None] | None = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Before the first attempt."""
        self._loop = loop
        self._timer = TableTimer(loop, self._expire, self._pending.next_deadline)

    # -- making them --------------------------------------------------------------------------

    async def until_settled(self, call: Call) -> Message:
        """An idempotent call is sent again after a lost connection, until its deadline."""
        while True:
            attempt = call.attempt
            try:
                return await self.once(call)
            except (ConnectionLost, NotSent) as error:
                lost = isinstance(error, ConnectionLost) or (call.attempt > attempt and not self._ready())
                if not lost or self._connecting.closed or _overdue(call):
                    raise
                log.info("sending %s again: %s", call.message_id, error)

    async def once(self, call: Call) -> Message:
        """Send, and wait for the reply, which is no fault. Cancelling is safe, and cancels the work."""
        try:
            inbox = self._ready() or await self._connecting.wait(self._until(call))
        except NotSent as error:
            raise in_view_of_earlier_attempts(call, error) from None
        call.attempt += 1
        correlation_id = new_id()
        message = self._message(call, correlation_id, inbox)
        waiter = self._enter(correlation_id, call.deadline)
        try:
            await self._transport.send(message, must_be_served=call.options.no_server == "fail")
            await (await_lending(waiter) if call.depth else waiter.wait())
            reply = waiter.outcome()
        except asyncio.CancelledError:
            self._abandon(message)
            raise
        except RpcError as error:
            self._leave(correlation_id)
            if self._connecting.closed:  # what may have arrived goes on otherwise
                self._cancel(message)
            raise in_view_of_earlier_attempts(call, named(call, error)) from error.__cause__
        except BaseException:
            self._leave(correlation_id)
            raise
        if len(reply.body) > self._max_body:
            call.may_have_run = True
            raise BadReply(f"the reply has {len(reply.body)} bytes: over max_body ({self._max_body})")
        if reply.kind is FAULT:
            raise in_view_of_earlier_attempts(call, read_error(reply))
        return reply

    async def unanswered(self, call: Call) -> None:
        """Send, and wait for no reply: it goes to where it is to be stored, or nowhere."""
        await self._connecting.wait_connected(self._until(call))
        call.attempt += 1
        message = self._message(call, new_id() if call.reply_to else "", call.reply_to)
        await self._transport.send(message, must_be_served=call.options.no_server == "fail")

    def _until(self, call: Call) -> float:
        """How long it waits to be sent: `send_wait` of its time, and all of it when it was sent before."""
        until = math.inf if call.attempt else asyncio.get_running_loop().time() + self._send_wait
        return until if call.deadline is None else min(until, call.deadline.at)

    def _message(self, call: Call, correlation_id: str, reply_to: str) -> Message:
        left_ms = unix_ms = None
        if call.deadline is not None and self._loop is not None:
            left_ms, unix_ms = call.deadline.on_the_wire(self._loop.time(), time.time())
        message = Message(
            REQUEST,
            call.address,
            call.method,
            call.message_id,
            correlation_id,
            reply_to,
            call.content_type,
            left_ms,
            unix_ms,
            call.attempt,
            call.depth,
            call.headers,
            call.body or b"",
            call.dialect,
            call.options.idempotent,
            None,
            call.to,
        )
        check_size(message.body, message.address, self._max_body)
        return message

    # -- the table ----------------------------------------------------------------------------

    def _enter(self, correlation_id: str, deadline: Deadline | None) -> Waiter[Message]:
        waiter: Waiter[Message] = Waiter()
        if deadline is None:
            self._pending.add(correlation_id, waiter, deadline=None)
        else:
            self._pending.add(correlation_id, waiter, deadline=deadline.at)
            if self._timer is not None:
                self._timer.cover(deadline.at)
        return waiter

    def _leave(self, correlation_id: str) -> Waiter[Message] | None:
        waiter = self._pending.settle(correlation_id)
        if self._gate:
            self._gate.let_one()
        return waiter

    def on_message(self, message: Message) -> None:
        """By the transport, of what came to the inbox."""
        waiter = self._leave(message.correlation_id)
        if waiter is not None:
            waiter.succeed(message)
        else:
            self._on_other(message)

    def on_undelivered(self, correlation_id: str, error: RpcError) -> None:
        """By the transport, of what it was given to send."""
        waiter = self._leave(correlation_id)
        if waiter is not None:
            waiter.fail(error)

    def _expire(self, now: float) -> None:
        for _, waiter in self._pending.expire(now):
            waiter.fail(DeadlineExceeded("no reply within the call's time; it may have run"))
        self._gate.let_all()

    def lose(self, why: str) -> None:
        """The connection is gone. Each caller gets an error of its own: a shared one would collect their tracebacks."""
        for _, waiter in self._pending.drain():
            waiter.fail(ConnectionLost(why))

    # -- cancelling work ----------------------------------------------------------------------

    def _abandon(self, message: Message) -> None:
        """The caller was cancelled: so is its work, unless a reply was already there."""
        if self._leave(message.correlation_id) is not None:
            self._cancel(message)

    def _cancel(self, message: Message) -> None:
        """Nobody waits for its reply any more."""
        if message.dialect != NATIVE:
            return
        cancel = Message(Kind.CANCEL, message.address)
        cancel.correlation_id, cancel.reply_to = message.correlation_id, message.reply_to
        self._cancels.append(cancel)
        if self._cancelling is None or self._cancelling.done():
            self._cancelling = self._own(self._send_cancels())

    async def _send_cancels(self) -> None:
        while self._cancels:
            cancel = self._cancels.popleft()
            try:
                await self._transport.publish(cancel_topic(cancel.address), cancel)
            except RpcError as error:
                self._cancels.clear()
                log.info("cancels were not sent, their deadlines will stop the work: %s", error)

    async def end(self) -> None:
        """Behind the last `lose`: the callers go on and cancel their work, and the cancels get `CANCELS_S` to leave."""
        if self._timer is not None:
            self._timer.stop()
        await asyncio.sleep(0)
        if self._cancelling is not None:
            await asyncio.wait([self._cancelling], timeout=CANCELS_S)


def _overdue(call: Call) -> bool:
    return call.deadline is not None and call.deadline.remaining(asyncio.get_running_loop().time()) <= 0
