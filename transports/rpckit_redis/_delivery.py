"""One request in the hands of this process, and what each kind of place does with it.

Each step is one command or one script, so that a process may die before or after it, never in it; the same
step of several requests may be taken in one, which is no less. (Settling an entry of a stream is two commands in one
write: deleted and not yet acked, nobody can run it.) Again is begin for what was redelivered and may run twice: nobody
takes it away from the others, but it is one try more.

| step      | stream                  | stream, taken      | list                 | list, popped   | Pub/Sub          |
|-----------|-------------------------|--------------------|----------------------|----------------|------------------|
| delivered | XREADGROUP by C         | XREADGROUP, :taken | BLMOVE; LPOP, RPUSH  | BLMPOP         | the message      |
| begin     | XACK = 1, XDEL          | nothing            | LREM = 1             | nothing        | SET NX PX        |
| again     | XCLAIM, one try more    | the same           | HSET, one try more   | is not popped  | nothing          |
| settle    | XDEL, XACK              | the same           | LREM                 | nothing        | nothing          |
| hand_back | XACK, XADD a copy, XDEL | the same           | LREM, LPUSH          | LPUSH          | nothing, or told |
| reject    | XACK, XADD :dead, XDEL  | the same           | LREM, LPUSH to :dead | LPUSH to :dead | nothing          |

A list is popped where nothing may run twice: about as much as can begin. When its server dies, what it has popped is
nobody's, as after begin; when only its connection does, it runs. Of a stream as much is taken, where one request comes
soon after the other: nobody else begins it, and Redis keeps it until it is settled. On Pub/Sub a server that is alone
begins with nothing, see `_subscribers`, and tells the caller what it hands back: nobody else has heard it.

| the server dies  | on streams, and lists that are not popped      | on streams, taken    | on Pub/Sub                |
|------------------|------------------------------------------------|----------------------|---------------------------|
| before delivered | the request waits                              | the request waits    | other subscribers have it |
| before begin     | another server reaps it, marked as redelivered | its caller is told   | other subscribers have it |
| after begin      | it is nobody's; its caller waits out its time  | its caller is told   | as on streams             |
| before again     | reaped; that does not count as a try           | reaped, uncounted    | nothing is redelivered    |
| before settle    | reaped and run again: its method is idempotent | its caller is told   | the same as after begin   |
| before hand_back | reaped                                         | its caller is told   | other subscribers have it |
| after the others | it is over, waits anew, or is with the dead    | the same             | it is over                |

Told is OutcomeUnknown, by whoever reaps it when its process has neither a connection nor a sign of life. A process
that only lost its connection goes on with what it has, settles it anew, and begins what it was given and never got.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import Any, Protocol

from rpckit.errors import ConnectionLost, OutcomeUnknown, RpcError
from rpckit.message import Message
from rpckit.transport import OnBegun

from ._connection import Session
from ._errors import explain
from ._replier import Replier

__all__ = ["RedisDelivery", "Source", "Taken"]

log = logging.getLogger(__name__)


class Taken(Enum):
    """Who has taken an entry of a stream as begun, so that nobody else begins it."""

    HERE = "this process, which may begin it"
    ELSEWHERE = "a process that died, and may have run it"


class Source(Protocol):
    """What a delivery came from: a receiver of one kind."""

    replier: Replier

    def claim(self, delivery: RedisDelivery, told: OnBegun) -> None:
        """Take it out of what others could get; `delivery.claimed` says later who did."""
        ...

    def begin_again(self, delivery: RedisDelivery, told: OnBegun) -> None:
        """Count one try more, for whoever takes it over; `delivery.allowed` says later whether it is still ours."""
        ...

    def settle(self, delivery: RedisDelivery) -> None: ...

    def hand_back(self, delivery: RedisDelivery) -> None: ...

    def abandon(self, delivery: RedisDelivery) -> None:
        """Given up in good order: another server gets it, and that is not counted against it."""
        ...

    def reject(self, delivery: RedisDelivery) -> None: ...

    def closed(self, delivery: RedisDelivery) -> None:
        """It takes up no room any more."""
        ...


class RedisDelivery:
    """Settling one of a lost session does nothing: another consumer has it, or will; unless it is `only_here`. What was
    taken gets the next session, and is settled there.
    """

    __slots__ = (
        "arrived_at",
        "begun",
        "data",
        "entry",
        "message",
        "only_here",
        "open",
        "redelivered",
        "session",
        "source",
        "taken",
        "tries",
    )

    def __init__(
        self,
        source: Source,
        session: Session,
        message: Message,
        data: bytes,
        entry: Any,
        tries: int,
        *,
        only_here: bool = False,
        taken: Taken | None = None,
    ) -> None:
        self.source = source
        self.session = session
        self.message = message
        self.data = data  # its envelope as it came
        self.entry = entry  # a stream's id of it
        self.tries = tries  # with the one that begins here: 1 for the first delivery
        self.redelivered = tries > 1
        self.arrived_at = session.main.last_read  # on the loop's clock
        self.only_here = only_here  # nobody else has it or will, also when the session is lost
        self.taken = taken
        self.begun = False  # claimed, so that Redis has it no more
        self.open = True

    def begin(self, told: OnBegun, *, again: bool = False) -> None:
        if self.open and self.taken is Taken.HERE:
            told(True)
        elif self.open and self.only_here:
            self.claimed(told, True)
        elif not self.open or not self.session.alive:
            self.allowed(told, False)
        elif self.begun or (again and not self.redelivered):
            told(True)
        elif again:
            self.source.begin_again(self, told)
        elif self.taken is Taken.ELSEWHERE:
            told(OutcomeUnknown(f"{self.message.address} died with this request in hand; it may have run"))
        else:
            self.source.claim(self, told)

    def claimed(self, told: OnBegun, outcome: bool | RpcError) -> None:
        self.begun = outcome is True
        self.allowed(told, outcome)

    def unclaimed(self, told: OnBegun, refusal: RpcError) -> None:
        """Redis took no claim and left it where it was: whoever gets it may run it, whatever its caller is told now."""
        if not isinstance(refusal, ConnectionLost):
            refusal = OutcomeUnknown(f"{refusal}; another server may run it")
        self.claimed(told, refusal)

    def allowed(self, told: OnBegun, outcome: bool | RpcError) -> None:
        """What became of asking; lost with its connection it is nobody's to answer: it may be another server's."""
        if isinstance(outcome, ConnectionLost):
            log.info("a request could not be begun, and is not run here: %s", outcome)
            outcome = False
        if outcome is False:
            self._close()
        told(outcome)

    def reply(self, message: Message, *, confirmed: bool = False) -> None:
        """Published before it is settled: so it is never lost between the two while this process lives."""
        self.source.replier.reply(message, self.arrived_at, self.message.time_left_ms)
        self.settle()

    def settle(self) -> None:
        if self.open:
            self.open = False
            self.source.closed(self)
            if not self.begun and not self.only_here and self.session.alive:
                self.source.settle(self)

    def hand_back(self) -> None:
        """What was redelivered stays so: it goes to another server when this one has closed. If only we had it, it is
        as if it had never been delivered.
        """
        if self._close() and not self.begun:
            if self.redelivered:
                self.source.abandon(self)
            else:
                self.source.hand_back(self)

    def reject(self) -> None:
        if self._close() and not self.begun:
            self.source.reject(self)

    def log_refusal(self, reply: Any) -> None:
        """For the answer to a settling step: the delivery comes again if it failed."""
        if isinstance(reply, Exception) and self.session.alive:
            log.warning("a delivery could not be settled: %s", explain(reply, self.message.address))

    def _close(self) -> bool:
        """True if Redis is still to be told, and there is a connection for it."""
        was_open, self.open = self.open, False
        if was_open:
            self.source.closed(self)
        return was_open and (self.only_here or self.taken is Taken.HERE or self.session.alive)
