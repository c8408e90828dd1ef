"""The sending side of a connection: what is written in one tick of the loop leaves together, many in convoys.

What is gathered in one tick is laid out together, as fewer messages than it would be one by one. Where somebody counts
the calls pending, a convoy is about half of them: were it all, each side would wait while the other works; were it few,
both would spend their time on reading and writing.

Invariant: bytes leave in the order they were written; no more than `UNSENT_MAX` is unsent but for
writers that did not ask whether the connection is `congested`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sized
from typing import Any, Generic, TypeVar, cast

from rpckit.errors import NotSent

__all__ = ["CONVOY", "LEAST_CONVOY", "MOST_CONVOY", "UNSENT_MAX", "Batch", "TickWriter"]

log = logging.getLogger(__name__)

CONVOY = 32  # messages of one tick that leave together where nobody counts what is pending
LEAST_CONVOY, MOST_CONVOY = 8, 64  # where somebody does, and there are more than the least
UNSENT_MAX = 8 * 1024 * 1024  # bytes waiting to be sent on a connection; then senders wait

T = TypeVar("T")
W = TypeVar("W", bound="TickWriter")


class Batch(Generic[W, T]):
    """What is laid out together if it comes in one tick: `lay_out(writer, items)` writes it.

    ahead: it leaves before batches that are not, whenever it was begun.
    """

    __slots__ = ("ahead", "items", "lay_out")

    def __init__(self, lay_out: Callable[[W, list[T]], None], *, ahead: bool = False) -> None:
        self.items: list[T] = []
        self.lay_out = lay_out
        self.ahead = ahead

    def leave(self, writer: W) -> None:
        if self.items:
            items, self.items = self.items, []
            self.lay_out(writer, items)


class TickWriter(asyncio.BaseProtocol):
    """Mixed into a protocol, before its own base.

    So a lone caller does not wait for the end of the tick, and many share a system call.
    """

    def __init__(self, *args: Any, convoy: int = CONVOY, **kwargs: Any) -> None:
        """convoy: messages of one tick that leave together while few are `pending`; the rest leaves after them."""
        super().__init__(*args, **kwargs)
        self._convoy = self._usual_convoy = convoy
        self.pending: Sized = ()  # calls without their reply, where somebody counts them; not all that is written here
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self._gathered: list[Batch[Any, Any]] = []  # in the order in which they leave
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_due = False
        self._lone = False  # the last tick that sent, sent one thing
        self._several = False  # of what was gathered in this tick
        self._answers = False  # what is written next answers to a read
        self.answered_on: TickWriter | None = None  # where what is heard here is answered, if not here
        self.last_read = self.loop.time()
        self._held_up = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False

    @property
    def alive(self) -> bool:
        return not self._lost and self.transport is not None and not self.transport.is_closing()

    def congested(self) -> bool:
        return self._held_up or self._out_bytes > UNSENT_MAX

    async def wait_writable(self, end: float) -> None:
        """Until less than `UNSENT_MAX` is unsent, or the connection is lost. Raises `NotSent` at `end` (loop time)."""
        try:
            async with asyncio.timeout_at(end):
                while self.congested() and self.alive:
                    self._flush()
                    await self._writable.wait()
        except TimeoutError:
            raise NotSent("the connection is full: 8 MiB wait to be sent") from None

    def heard(self) -> None:
        """Something came in. Where one thing is sent at a time, what is written next answers it.

        It needs no flush behind it, which spares a lone caller a turn of the loop.
        """
        self.last_read = self.loop.time()
        (self.answered_on or self)._answers = True

    def hold(self) -> None:
        """What is written now leaves at the end of the tick, with what follows it."""
        self._lone = False

    def leaves_at_once(self) -> bool:
        """What is written now: the last tick that sent, sent one thing, and this one has sent nothing yet."""
        return self._lone and not self._flush_due

    def write(self, data: bytes) -> None:
        """Send with everything else of this tick, or what `leaves_at_once` at once."""
        if self.leaves_at_once():
            if self._answers:
                self._answers = False
            else:
                self._plan_flush()
            self._hand_over(data)
            return
        self._plan_flush()
        self._lone = False
        self._out.append(data)
        self._out_bytes += len(data)
        if len(self._out) == self._convoy:
            self._write_out()

    def gather(self, batch: Batch[Any, T], item: T) -> None:
        """Add to a batch, which leaves after whatever else is written in this tick.

        It leaves at once when the tick before had nothing else to send. A full one leaves with all there are.
        """
        items = batch.items
        items.append(item)
        if len(items) == 1:
            self._begin(batch)
        elif len(items) == self._convoy:
            self._leave()
            self._write_out()

    def _begin(self, batch: Batch[Any, Any]) -> None:
        if self.leaves_at_once():
            batch.leave(self)
            return
        if batch.ahead:
            self._gathered.insert(0, batch)
        else:
            self._gathered.append(batch)
        self._plan_flush()

    def _leave(self) -> None:
        """All that is gathered is laid out. What cannot be harms nothing else: nobody is there to be told."""
        gathered, self._gathered = self._gathered, []
        for batch in gathered:
            self._several = self._several or len(batch.items) > 1
            try:
                batch.leave(self)
            except Exception:
                log.exception("what was gathered cannot be written, and is lost")

    def _plan_flush(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._leave()
        self._flush_due = False  # only now: else what was laid out had left at once, one by one
        self._lone = not self._several and (self._lone or len(self._out) == 1)
        self._several = False
        self._write_out()
        if (pending := len(self.pending)) > LEAST_CONVOY:
            self._convoy = min(max((pending + 1) // 2, LEAST_CONVOY), MOST_CONVOY)
        else:
            self._convoy = self._usual_convoy

    def _write_out(self) -> None:
        out, self._out, self._out_bytes = self._out, [], 0
        if out:
            self._hand_over(out[0] if len(out) == 1 else b"".join(out))

    def _hand_over(self, data: bytes) -> None:
        """To the system; what is written to a connection that is gone is gone with it."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self.transport.set_write_buffer_limits(high=UNSENT_MAX)

    def _end_writing(self) -> bool:
        """The connection is lost: nobody waits to write any more. False when that is known already."""
        known, self._lost = self._lost, True
        self._held_up = False
        self._writable.set()
        return not known

    def pause_writing(self) -> None:
        self._held_up = True
        self._writable.clear()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._held_up = False
        self._writable.set()
        super().resume_writing()
