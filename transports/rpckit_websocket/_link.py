"""The shell of one session: its frames to the hub, the hub's messages to its wire, and how much of both may wait."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import TYPE_CHECKING

from rpckit.errors import Code, ConnectionLost, NoResponder, NotSent, Overloaded, RpcError, UsageError
from rpckit.ids import new_id
from rpckit.message import NATIVE, Kind, Message
from rpckit.topics import in_bounds, is_pattern, matches

from ._dialect import Control, Frame, Ping, Pong, Receipt, Subscribe, Undelivered, Unsubscribe, frame_size
from ._held import HeldRequests
from ._options import FASTAPI_RPC, JSONRPC
from ._session import MAX_PATTERNS, MAX_TOPICS, Fact, Phase, Session
from ._wires import PROTOCOL_ERROR, Wire

if TYPE_CHECKING:
    from ._hub import Hub

__all__ = ["Link"]

log = logging.getLogger(__name__)

MAX_ADDRESS = 255  # characters, as on the other transports
MAX_UTF8 = 4  # bytes of a character: what is short by that need not be measured
FIRST_WORD_S = 5.0  # seconds for a peer to say its dialect


class Link:
    """One peer. It is told to the hub when its session is open, and once more when it is gone.

    Whatever is written may end it, if its peer does not read: who goes on after writing looks at `gone` again.
    """

    __slots__ = (
        "_ask_again_at",
        "_asked_at",
        "_dropped",
        "_ending",
        "_told",
        "began",
        "gone",
        "headers",
        "held",
        "hub",
        "in_hand",
        "keeper",
        "nested_in_hand",
        "patterns",
        "ready",
        "receipts",
        "rtt",
        "sent",
        "session",
        "topics",
        "wire",
    )

    def __init__(self, hub: Hub, session: Session, wire: Wire, headers: dict[str, str]) -> None:
        self.hub = hub
        self.session = session
        self.headers = headers
        self.rtt: float | None = None  # seconds, of the last heartbeat answered
        self.topics: set[str] = set()  # it wants to hear, and these are among them:
        self.patterns: set[str] = set()
        self.in_hand = 0  # requests of this peer delivered and not settled, nested ones apart
        self.nested_in_hand = 0
        self.held = HeldRequests()
        self.sent: dict[str, float] = {}  # requests to it that are not answered, and until when they can be
        self.receipts: dict[str, asyncio.Future[None]] = {}
        self.ready: asyncio.Future[None] = hub.loop.create_future()
        self.began = hub.loop.time()
        self.gone = False
        self.keeper: asyncio.Task[None] | None = None  # ends the link with its connection
        self.wire = wire
        self._told = False
        self._ending = False
        self._asked_at: float | None = None
        self._ask_again_at: float | None = None  # also a busy peer: then its round trip is known
        self._dropped = 0

    @property
    def id(self) -> str:
        return self.session.id

    @property
    def name(self) -> str:
        return self.session.peer_name

    @property
    def dialect(self) -> str:
        return self.session.dialect.name if self.session.dialect else ""

    def begin(self, dialect: str | None) -> None:
        """Start the session: in a dialect that is known, or with the first frame."""
        if dialect is not None:
            self.session.begin(dialect)
        self._after_session()
        self.wire.attach(self._on_frame, self._on_pong)

    # -- what comes -------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        session = self.session
        items = session.receive(frame)
        if not self._told:
            self._after_session()  # the hub knows of a peer before it has a message of it
        for item in items:
            if self.gone:
                return  # by what came before it
            if isinstance(item, Message):
                self.hub.take(self, item)
            else:
                self._act(item)
        if session.out or session.phase is not Phase.OPEN:
            self._after_session()

    def _after_session(self) -> None:
        """Say what the session wants said, and tell what became of it."""
        session = self.session
        out, session.out = session.out, []
        for frame in out:
            self._write_own(frame)
        if session.phase is Phase.OPEN and not self._told:
            self._told = True
            if not self.ready.done():
                self.ready.set_result(None)
            self.hub.joined(self)
        elif session.phase is Phase.CLOSED and not self.gone and not self._ending:
            self._ending = True  # what comes until it is closed is not read
            log.warning("session %.8s of %s ends: %s", self.id, self.name or "a peer", session.why)
            self.wire.shut(PROTOCOL_ERROR, session.why)

    def _act(self, fact: Fact) -> None:
        match fact.what:
            case Pong(token):
                self._on_pong()
                caught_up = self.receipts.pop(f"ping:{token}", None)
                if caught_up is not None and not caught_up.done():
                    caught_up.set_result(None)
            case Subscribe(topic):
                self._subscribe(topic)
            case Unsubscribe(topic):
                self.topics.discard(topic)
                self.patterns.discard(topic)
            case Undelivered(correlation_id, why):
                self.sent.pop(correlation_id, None)
                self.hub.tell_undelivered(correlation_id, NoResponder(why))
            case Receipt(message_id, refusal, code):
                receipt = self.receipts.pop(message_id, None)
                if receipt is not None and not receipt.done():
                    if refusal:
                        receipt.set_exception(_refused(code, refusal))
                    else:
                        receipt.set_result(None)

    def _subscribe(self, topic: str) -> None:
        if len(self.topics) >= MAX_TOPICS or len(topic) > MAX_ADDRESS:
            return
        if not is_pattern(topic):
            self.topics.add(topic)
        elif len(self.patterns) < MAX_PATTERNS and in_bounds(topic):
            self.topics.add(topic)
            self.patterns.add(topic)

    def _on_pong(self) -> None:
        if self._asked_at is not None:
            self.rtt, self._asked_at = perf_counter() - self._asked_at, None

    # -- what goes --------------------------------------------------------------------------------

    def write(self, message: Message) -> None:
        """Raises `NotSent` for a session that is gone or too slow, `UsageError` for what cannot be said."""
        if len(message.body) > self.hub.max_body:
            raise UsageError(
                f"a body of {len(message.body)} bytes is over what max_message leaves for one ({self.hub.max_body}): "
                "raise it on both sides"
            )
        if len(message.address) > MAX_ADDRESS:
            raise UsageError(f"an address of {len(message.address)} characters; a session carries {MAX_ADDRESS}")
        if self.gone or self.session.phase is not Phase.OPEN:
            raise NotSent("the session is not open" if not self.gone else "the session is gone")
        frame = self.session.write(message)
        if frame is not None:
            self.write_frame(frame)

    def write_frame(self, frame: Frame, *, may_drop: bool = False) -> None:
        """A peer that does not read is dropped; before that, events to it are."""
        most = self.hub.options.max_message
        if len(frame) * MAX_UTF8 > most and (size := frame_size(frame)) > most:
            raise UsageError(f"a message of {size} bytes is over max_message ({most})")
        if may_drop and self.congested():
            self._count_dropped()
        elif self._lost_as_too_slow():
            raise NotSent("the session was dropped: too slow")
        else:
            self.wire.write(frame)

    async def caught_up(self) -> None:
        """Return when the other side has read everything written so far. Raises `ConnectionLost`."""
        if self.dialect not in (NATIVE, JSONRPC):
            return
        token = new_id()
        answer = self.receipts[f"ping:{token}"] = self.hub.loop.create_future()
        self.write_control(Ping(token))
        try:
            async with asyncio.timeout(self.hub.options.connect_timeout):
                await answer
        except TimeoutError:
            raise ConnectionLost("the other side did not answer in time") from None
        finally:
            self.receipts.pop(f"ping:{token}", None)

    def write_control(self, control: Control) -> None:
        if self.gone or self.session.dialect is None:
            return
        frame = self.session.dialect.write_control(control)
        if frame is not None:
            self._write_own(frame)

    def _write_own(self, frame: Frame) -> None:
        """What the session itself says. A peer that asks and does not read is dropped as well."""
        if not self.gone and not self._lost_as_too_slow():
            self.wire.write(frame)

    def _lost_as_too_slow(self) -> bool:
        unsent = self.wire.unsent
        if unsent <= self.hub.options.max_unsent:
            return False
        self.lose(f"{self.name or 'a peer'} is too slow: {unsent} bytes wait to be sent")
        return True

    def congested(self) -> bool:
        return self.wire.unsent > self.hub.options.max_unsent // 2

    def wants(self, topic: str) -> bool:
        return topic in self.topics or any(matches(pattern, topic) for pattern in self.patterns)

    def event(self, topic: str, message: Message) -> None:
        """What is published to this peer, if it may have it and takes it."""
        dialect = self.session.dialect
        if self.gone or self.session.phase is not Phase.OPEN or dialect is None:
            return
        frame = dialect.event(topic, message)
        if frame is not None:
            self.write_frame(frame, may_drop=message.kind is Kind.EVENT)

    def cancel(self, topic: str, message: Message) -> None:
        """End the work of a call that nobody waits for. The loss of a peer that is too slow for it has been told."""
        try:
            self.event(topic, message)
        except NotSent as error:
            log.info("a cancel was not sent to %s: %s", self.name or self.id, error)

    def _count_dropped(self) -> None:
        self._dropped += 1
        if self._dropped == 1:
            log.warning("%s reads too slowly: events to it are dropped", self.name or f"session {self.id:.8}")

    # -- whose turn it is ---------------------------------------------------------------------------

    @property
    def has_turn(self) -> bool:
        return self.in_hand < self.hub.options.limit

    def nested_has_turn(self, waiting: int) -> bool:
        """As many pass its limit as may be waited for, and no more.

        By calls of ours that it works on; or by way of other sessions, by handlers here that are `waiting`.
        """
        return self.nested_in_hand < len(self.sent) + waiting

    # -- signs of life, and the end -----------------------------------------------------------------

    def look(self, now: float, heartbeat: float) -> None:
        """Ask a silent peer for a sign of life, and any peer once a heartbeat; lose one that gave none."""
        silent = now - self.wire.last_read
        again_at = self._ask_again_at = self._ask_again_at or now + heartbeat
        waited = now - self.began > FIRST_WORD_S
        if self.session.phase is Phase.UNKNOWN and waited and self.hub.options.default_dialect is not None:
            self.session.begin(self.hub.options.default_dialect)
            self._after_session()
        self._forget_expired(now)
        if self.gone:
            return
        if silent > 1.75 * heartbeat and self._asked_at is not None and not self._may_be_busy:
            self.lose(f"no sign of life for {silent:.1f} s")
        elif self._asked_at is None and (silent > heartbeat / 2 or now > again_at):
            self._ask_again_at = now + heartbeat
            self._ask()

    def _ask(self) -> None:
        if self.wire.pings and self.dialect != NATIVE:
            self.wire.send_ping()  # those of fastapi_websocket_rpc answer no others while a handler runs
        elif self.session.dialect is not None and self.session.dialect.greets:
            self.write_control(Ping("1"))
        else:
            return  # nothing that any JSON-RPC program answers can be sent; its server watches the connection
        self._asked_at = perf_counter()  # the loop's clock may be as coarse as a millisecond

    def _forget_expired(self, now: float) -> None:
        """Calls that nobody has answered in time. A dialect without deadlines is told that they are over."""
        for correlation_id in [key for key, until in self.sent.items() if until <= now]:
            del self.sent[correlation_id]
            if self.dialect == JSONRPC:
                self.cancel("", Message(Kind.CANCEL, correlation_id=correlation_id))
            if self.gone:  # lost by that write: its leaving took the rest
                return

    @property
    def _may_be_busy(self) -> bool:
        """A program of fastapi_websocket_rpc does not read while it handles what we asked."""
        return self.dialect == FASTAPI_RPC and not self.wire.pings and bool(self.sent)

    def slept(self, now: float) -> None:
        """This loop slept, not the peer."""
        self.wire.last_read = now

    def shut(self, code: int, reason: str) -> None:
        self.wire.shut(code, reason)

    def lose(self, why: str) -> None:
        """Gone now, whatever the other side thinks."""
        self.wire.abort()
        self.end(why)

    def end(self, why: str) -> None:
        """The connection is gone. Whoever waits for this peer is told."""
        if self.gone:
            return
        self.gone = True
        self.session.end(why)
        if not self.ready.done():
            self.ready.set_exception(NotSent(why))
            self.ready.exception()  # read here: nobody need wait for it
        for receipt in self.receipts.values():
            if not receipt.done():
                receipt.set_exception(ConnectionLost(why))
        self.receipts.clear()
        self.hub.left(self, why, was_open=self._told)


def _refused(code: str, why: str) -> RpcError:
    return Overloaded(why) if code == Code.RESOURCE_EXHAUSTED else NoResponder(why)
