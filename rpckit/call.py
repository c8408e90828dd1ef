"""What a call is apart from how it travels: options, the call itself, its raw reply. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rpckit import codec
from rpckit.bodies import write_arguments
from rpckit.deadline import Deadline
from rpckit.errors import DID_NOT_RUN, BadReply, DeadlineExceeded, OutcomeUnknown, RpcError, UsageError
from rpckit.fault import read_fault
from rpckit.message import NATIVE, PLAIN, Kind, Message
from rpckit.topics import check_topic, event_topic, foreign_topic
from rpckit.transport import Capabilities

__all__ = [
    "CORRELATION_HEADER",
    "UNSET",
    "Call",
    "CallOptions",
    "NoServer",
    "Reply",
    "Timeout",
    "Unset",
    "cancel_topic",
    "check_carried",
    "check_size",
    "event_message",
    "in_view_of_earlier_attempts",
    "named",
    "read_error",
    "read_reply",
    "read_value",
    "seconds",
    "write_body",
]

NoServer = Literal["fail", "wait"]
MAX_TIMEOUT_S = 1e9  # seconds, 30 years: more does not fit the wire's milliseconds
CORRELATION_HEADER = "x-correlation-id"  # a Response's own id; the wire's joins reply to call


class Unset:
    def __repr__(self) -> str:
        return "<from the settings>"


UNSET = Unset()
Timeout = float | Unset | None  # seconds; None waits for ever, and must be spelt


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What may be said of a call apart from its arguments.

    timeout:    seconds; None waits for ever, and must be spelt.
    headers:    the user's own, strings.
    idempotent: it may run twice: after a lost connection it is sent again.
    no_server:  "fail" raises `NoResponder` when nobody serves; "wait" queues for a server to come.
    """

    timeout: float | None
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotent: bool = False
    no_server: NoServer = "fail"

    def but(
        self,
        timeout: Timeout = UNSET,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        no_server: NoServer | None = None,
    ) -> CallOptions:
        """The same with what is given here instead. Raises `UsageError` for what cannot be."""
        if headers is None and idempotent is None and no_server is None and isinstance(timeout, Unset):
            return self
        return CallOptions(
            timeout=self.timeout if isinstance(timeout, Unset) else _positive(timeout),
            headers=self.headers if headers is None else _checked(headers),
            idempotent=self.idempotent if idempotent is None else idempotent,
            no_server=self.no_server if no_server is None else _one_of_two(no_server),
        )


@dataclass(slots=True)
class Call:
    """One call as client middleware sees it. `attempt` counts the attempts made so far."""

    address: str
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: CallOptions
    headers: dict[str, str]
    deadline: Deadline | None
    message_id: str
    depth: int
    dialect: str
    content_type: str = ""
    body: bytes | None = None
    attempt: int = 0
    may_have_run: bool = False
    reply_to: str = ""  # where its reply is stored, when nobody waits for it
    to: str = ""  # the session it goes to, where there are several


@dataclass(frozen=True, slots=True)
class Reply:
    """A raw reply: `body` as it came, `headers`, and the correlation id."""

    body: bytes
    headers: Mapping[str, str]
    correlation_id: str
    content_type: str

    def decode(self) -> Any:
        """The body's value by its content type; without one JSON, else text, else bytes. Raises `BadReply`."""
        try:
            return codec.decode_guess(self.content_type, self.body)
        except codec.CodecError as error:
            raise BadReply(f"the reply cannot be read: {error}") from error


def seconds(timeout: Any) -> float | None:
    """A timeout that somebody gave; None waits for ever. Raises `UsageError`."""
    if timeout is None:
        return None
    if not (isinstance(timeout, int | float) and -MAX_TIMEOUT_S < timeout < MAX_TIMEOUT_S):
        raise UsageError(f"timeout is in seconds, or None to wait for ever; not {timeout!r:.60}")
    return float(timeout)


def _positive(timeout: Any) -> float | None:
    limit = seconds(timeout)
    if limit is not None and limit <= 0:
        raise UsageError(f"timeout is more than 0 seconds, not {timeout!r:.60}: there is no time to send it in")
    return limit


def cancel_topic(address: str) -> str:
    """Where the servers of an address hear of cancelled calls."""
    return f"rpckit.cancel.{address.replace('#', '%23')}"  # an address is a name, and no pattern


def check_size(body: bytes, name: str, most: int) -> None:
    """Raises `UsageError` for a body to `name` over `most` bytes, the `max_body` of the settings."""
    if len(body) > most:
        raise UsageError(f"{len(body)} bytes for {name}: over max_body ({most})")


def check_carried(capabilities: Capabilities, topic: str) -> None:
    """Raises `UsageError` for a topic of programs that the transport does not meet."""
    foreign = foreign_topic(topic)
    if foreign is not None and foreign.kind not in capabilities.foreign_topics:
        raise UsageError(
            f"topic {topic!r} cannot be met on {capabilities.name}: {foreign.kind}: names what belongs to another "
            "broker; without it the topic is rpckit's own"
        )


def event_message(
    topic: str, message_id: str, args: tuple[Any, ...], kwargs: dict[str, Any], headers: Mapping[str, str]
) -> Message:
    """An event, its address the topic it is published on. Raises `UsageError`.

    Its body is that of a call; on a foreign topic that of a plain one: the argument.
    """
    address = event_topic(check_topic(topic))
    dialect = PLAIN if foreign_topic(topic) else NATIVE
    body, content_type = write_arguments(dialect, "", args, kwargs)
    return Message(
        Kind.EVENT,
        address,
        message_id=message_id,
        content_type=content_type,
        headers=dict(_checked(headers)),
        body=body,
        dialect=dialect,
    )


def write_body(call: Call) -> None:
    """Encode a call's arguments, once for all its attempts. Raises `UsageError` when they cannot be sent."""
    if call.body is None:
        call.body, call.content_type = write_arguments(call.dialect, call.content_type, call.args, call.kwargs)


def read_value(reply: Message) -> Any:
    """The result in a reply. Raises `BadReply`."""
    try:
        if reply.dialect == NATIVE:
            return codec.decode(reply.content_type, reply.body)
        return codec.decode_guess(reply.content_type, reply.body)
    except codec.CodecError as error:
        raise BadReply(f"the reply cannot be read: {error}") from error


def read_error(reply: Message) -> RpcError:
    """The error in a fault."""
    try:
        return read_fault(reply).to_error()
    except codec.CodecError as error:
        return BadReply(f"the other side reported a fault that cannot be read: {error}")


def read_reply(reply: Message) -> Reply:
    own_id = reply.headers.get(CORRELATION_HEADER, reply.correlation_id)
    return Reply(reply.body, reply.headers, own_id, reply.content_type)


def in_view_of_earlier_attempts(call: Call, error: RpcError) -> RpcError:
    """From the second attempt on, "this one did not run" does not mean that none did."""
    if not isinstance(error, DID_NOT_RUN):
        call.may_have_run = True
    elif call.may_have_run:
        return OutcomeUnknown(f"this attempt did not run, but an earlier one may have: {error}")
    return error


def named(call: Call, error: RpcError) -> RpcError:
    """The table's timer knows of no names."""
    if not isinstance(error, DeadlineExceeded):
        return error
    target = ".".join(filter(None, (call.address, call.method))) or "the other side"  # which has no address
    limit = "its time" if call.depth or call.options.timeout is None else f"{call.options.timeout:g} s"
    return DeadlineExceeded(f"no reply from {target} within {limit}; it may have run")


def _one_of_two(no_server: Any) -> NoServer:
    if no_server not in ("fail", "wait"):
        raise UsageError(f'no_server is "fail" or "wait", not {no_server!r:.60}')
    choice: NoServer = no_server
    return choice


def _checked(headers: Mapping[Any, Any]) -> Mapping[str, str]:
    if not isinstance(headers, Mapping):
        raise UsageError(f"headers are a mapping of strings, not {headers!r:.60}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"headers are strings both ways; {name!r:.60} is {type(value).__name__}")
    return headers
