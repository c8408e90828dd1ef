"""JSON-RPC 2.0 over WebSocket (jsonrpc.org/specification), with a cancel as editors know it. Pure.

A method's name is `address.method`, or the bare method. Beside the specification::

    $/cancelRequest  {id}               notification: the call's work ends, and is answered -32800
    rpc.ping         request            answered "pong": a browser cannot send ping frames
    rpc.subscribe    [topic]            request; rpc.unsubscribe likewise
    rpc.event        {topic, params}    notification, to subscribers
    rpc.emit         {topic, params}    notification, to the server
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import count
from math import isfinite
from typing import Any

from rpckit import codec
from rpckit.call import cancel_topic
from rpckit.errors import Code, UsageError
from rpckit.fault import JSONRPC_CODES
from rpckit.message import Kind, Message
from rpckit.topics import EVENTS, MAX_TOPIC_BYTES, MAX_WORDS, in_bounds, user_topic

from ._dialect import (
    BadFrame,
    Control,
    Frame,
    Incoming,
    Ping,
    Pong,
    Settled,
    Subscribe,
    Undelivered,
    Unsubscribe,
    as_text,
    dump_json,
    json_body,
    load_json,
    native_body,
    open_body,
)
from ._jsonrpc_answers import (
    CANCELLED,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NULL,
    PARSE_ERROR,
    error_text,
    fault_body,
    fault_text,
    result_text,
)
from ._jsonrpc_batches import BatchAnswers, HeldBack
from ._options import JSONRPC, MAX_MESSAGE

__all__ = ["JsonRpc"]

PING = "rpckit-ping-"  # before the ids of our own heartbeats
MAX_BATCH = 1000  # messages of one batch


class JsonRpc:
    """`peer` is the reply address that requests of the other side get; `binary` frames are answered in kind.

    max_message: bytes of one frame, thus of the answers to one batch.
    """

    name = JSONRPC
    greets = False

    __slots__ = (
        "_binary",
        "_cancelled",
        "_dialled",
        "_held_back",
        "_nulls",
        "_only_binary",
        "_open",
        "peer",
    )

    def __init__(
        self, peer: str = "", *, dialled: bool = False, binary: bool = False, max_message: int = MAX_MESSAGE
    ) -> None:
        self.peer = peer
        self._dialled = dialled  # events come from the side that listens; the other one emits them
        self._binary = self._only_binary = binary
        self._open: dict[str, BatchAnswers | None] = {}  # by the ids of unanswered requests
        self._cancelled: set[str] = set()  # of those
        self._held_back = HeldBack(max_message)
        self._nulls = count(1)  # an id of null is no id: each such request gets one here

    # -- reading ------------------------------------------------------------------------------

    def read(self, frame: Frame) -> Sequence[Incoming]:
        self._binary = self._only_binary or type(frame) is bytes
        try:
            value = load_json(frame)
        except BadFrame as error:
            raise BadFrame(str(error), self._framed(error_text(NULL, PARSE_ERROR, "not JSON"))) from error
        if isinstance(value, list):
            return self._batch(value)
        try:
            incoming = self._one(value)
        except _Invalid as error:
            raise BadFrame(str(error), self._framed(error.answer)) from error
        for item in incoming:
            if key := _wants_answer(item):
                self._open[key] = None
        return incoming

    def _batch(self, values: list[Any]) -> Sequence[Incoming]:
        if not values or len(values) > MAX_BATCH:
            why = f"a batch holds 1 to {MAX_BATCH} messages"
            raise BadFrame(why, self._framed(error_text(NULL, INVALID_REQUEST, why)))
        batch = BatchAnswers()
        incoming: list[Incoming] = []
        for value in values:
            try:
                each = self._one(value)
            except _Invalid as error:
                batch.add(error.answer)
                continue
            for item in each:
                if key := _wants_answer(item):
                    self._open[key] = batch
                    batch.expect(key)
            incoming += each
        if not self._held_back.admit(batch):
            raise self._batch_refused(incoming)
        if errors := batch.array():
            raise BadFrame("a batch without a valid request", self._framed(errors), incoming)
        return incoming

    def _batch_refused(self, incoming: Sequence[Incoming]) -> BadFrame:
        """Not even errors would have room. What wants no answer is taken all the same."""
        for key in filter(None, map(_wants_answer, incoming)):
            del self._open[key]
            self._cancelled.discard(key)
        why = "no request of this batch ran: its answers might have no room; send fewer at once, or wait for the others"
        answer = self._framed(error_text(NULL, JSONRPC_CODES[Code.RESOURCE_EXHAUSTED], why))
        return BadFrame(why, answer, [item for item in incoming if not _wants_answer(item)])

    def _one(self, value: Any) -> Sequence[Incoming]:
        if not isinstance(value, dict):
            raise _Invalid("a message is an object", None)
        if "method" not in value and ("result" in value or "error" in value):
            return (self._answer(value),)
        identity, method, params = value.get("id"), value.get("method"), value.get("params", [])
        if value.get("jsonrpc") != "2.0" or not isinstance(method, str) or not isinstance(params, list | dict):
            raise _Invalid('a request has "jsonrpc": "2.0", a method, and params that are an array or object', identity)
        correlation_id = self._correlation_id(identity) if "id" in value else ""
        own = _OWN.get(method)
        if own is None:
            return (self._request(method, correlation_id, params),)
        try:
            return own(self, correlation_id, params)
        except _BadParams as error:
            if not correlation_id:
                return ()
            raise _Invalid(str(error), identity, INVALID_PARAMS) from error

    def _correlation_id(self, identity: Any) -> str:
        """The id as JSON, for it is written as it was read; `null#…` for null."""
        if identity is None:
            return f"{NULL}#{next(self._nulls)}"
        if not _is_id(identity):
            raise _Invalid("an id is a string, a number or null", None)
        correlation_id = json.dumps(identity)
        if correlation_id in self._open:
            raise _Invalid("this id is in use", identity)
        return correlation_id

    def _request(self, method: str, correlation_id: str, params: list[Any] | dict[str, Any]) -> Message:
        address, _, name = method.rpartition(".")
        args, kwargs = (params, {}) if isinstance(params, list) else ([], params)
        message = Message(Kind.REQUEST, address, name, "", correlation_id, self.peer if correlation_id else "")
        message.content_type, message.body = codec.JSON, native_body(args, kwargs)
        return message

    def _answer(self, value: dict[str, Any]) -> Incoming:
        identity = value.get("id")
        correlation_id = identity if isinstance(identity, str) else ""
        if correlation_id.startswith(PING):
            return Pong(correlation_id.removeprefix(PING))
        if "error" not in value or value["error"] is None:
            body = json_body(value.get("result"))
            return Message(Kind.REPLY, "", correlation_id=correlation_id, content_type=codec.JSON, body=body)
        return Message(
            Kind.FAULT, "", correlation_id=correlation_id, content_type=codec.JSON, body=fault_body(value["error"])
        )

    def _cancel(self, correlation_id: str, params: Any) -> Sequence[Incoming]:
        """What was answered before, or never asked, is nothing to cancel."""
        cancelled = json.dumps(params.get("id")) if isinstance(params, dict) else ""
        if cancelled not in self._open:
            return self._ping(correlation_id)
        self._cancelled.add(cancelled)
        cancel = Message(Kind.CANCEL, "", correlation_id=cancelled, reply_to=self.peer)
        return (cancel, *self._ping(correlation_id))

    def _ping(self, correlation_id: str, _: Any = None) -> Sequence[Incoming]:
        """Answered, if an answer is wanted: it has arrived."""
        return (Ping(correlation_id),) if correlation_id else ()

    def _subscribe(self, correlation_id: str, params: Any) -> Sequence[Incoming]:
        return (Subscribe(_topic(params)), *self._ping(correlation_id))

    def _unsubscribe(self, correlation_id: str, params: Any) -> Sequence[Incoming]:
        return (Unsubscribe(_topic(params)), *self._ping(correlation_id))

    def _event(self, correlation_id: str, params: Any) -> Sequence[Incoming]:
        inner = params.get("params", []) if isinstance(params, dict) else []
        args, kwargs = ([], inner) if isinstance(inner, dict) else (inner if isinstance(inner, list) else [inner], {})
        event = Message(Kind.EVENT, _topic(params), content_type=codec.JSON)
        event.body = native_body(args, kwargs)
        return (event, *self._ping(correlation_id))

    # -- writing ------------------------------------------------------------------------------

    def write(self, message: Message) -> Frame | None:
        if message.kind is Kind.REQUEST:
            return self._framed(self._request_text(message))
        if message.kind is Kind.CANCEL:
            return self._framed(_notification("$/cancelRequest", {"id": message.correlation_id}))
        if message.kind is Kind.EVENT:
            return self.event(message.address, message)
        if message.kind is Kind.REPLY:
            text = result_text(message.correlation_id, as_text(message))
        elif message.kind is Kind.FAULT:
            text = fault_text(message)
        else:
            raise UsageError(f"JSON-RPC has no {message.kind}")
        return self._settled(message.correlation_id, text)

    def event(self, topic: str, message: Message) -> Frame | None:
        if message.kind is Kind.CANCEL:
            return self.write(message)
        args, kwargs = open_body(message)
        name = "rpc.emit" if self._dialled else "rpc.event"
        return self._framed(_notification(name, {"topic": user_topic(topic), "params": kwargs or args}))

    def write_control(self, control: Control) -> Frame | None:
        match control:
            case Ping(token):
                return self._framed(dump_json({"jsonrpc": "2.0", "method": "rpc.ping", "id": f"{PING}{token}"}))
            case Pong(token):
                return self._settled(token, result_text(token, '"pong"'))
            case Undelivered(correlation_id, why):
                return self._settled(correlation_id, error_text(correlation_id, METHOD_NOT_FOUND, why))
            case Subscribe(topic):
                return self._framed(self._own_request("rpc.subscribe", topic))
            case Unsubscribe(topic):
                return self._framed(self._own_request("rpc.unsubscribe", topic))
            case Settled(correlation_id):
                if correlation_id in self._cancelled:
                    return self._settled(correlation_id, error_text(correlation_id, CANCELLED, "cancelled"))
                return self._settled(correlation_id, result_text(correlation_id, NULL))
        return None  # it has no greetings and no receipts

    def _own_request(self, method: str, topic: str) -> str | None:
        if topic.startswith(cancel_topic("")):
            return None  # cancels need no subscription here
        return dump_json({"jsonrpc": "2.0", "method": method, "params": [user_topic(topic)], "id": f"{PING}{method}"})

    def _request_text(self, message: Message) -> str:
        args, kwargs = open_body(message)
        if args and kwargs:
            raise UsageError("JSON-RPC takes arguments by position or by name, not both")
        name = ".".join(part for part in (message.address, message.method) if part)
        request: dict[str, Any] = {"jsonrpc": "2.0", "method": name, "params": kwargs or args}
        if message.reply_to:
            request["id"] = message.correlation_id
        return dump_json(request)

    def _settled(self, correlation_id: str, text: str) -> Frame | None:
        batch = self._open.pop(correlation_id, None)
        self._cancelled.discard(correlation_id)
        return self._framed(text if batch is None else self._held_back.settle(batch, correlation_id, text))

    def _framed(self, text: str | None) -> Frame | None:
        return text.encode() if text is not None and self._binary else text


class _Invalid(Exception):
    """A message that is answered with an error at once."""

    def __init__(self, why: str, identity: Any, code: int = INVALID_REQUEST) -> None:
        super().__init__(why)
        self.answer = error_text(json.dumps(identity) if _is_id(identity) else NULL, code, why)


class _BadParams(Exception):
    """Of a method of this dialect's own."""


def _is_id(identity: Any) -> bool:
    """Infinity and not-a-number are none: Python reads them, and JSON has no way to write them."""
    if isinstance(identity, float):
        return isfinite(identity)
    return isinstance(identity, str | int) and not isinstance(identity, bool)


def _wants_answer(item: Incoming) -> str:
    """The id of a request; empty for everything else."""
    if isinstance(item, Message):
        return item.correlation_id if item.kind is Kind.REQUEST else ""
    return item.token if isinstance(item, Ping) else ""


def _topic(params: Any) -> str:
    """As the transports call it: whatever a peer writes, it is a topic of users."""
    topic = params.get("topic") if isinstance(params, dict) else (params[0] if params else None)
    if not isinstance(topic, str) or not topic:
        raise _BadParams("a topic is a string")
    if not in_bounds(f"{EVENTS}{topic}"):
        raise _BadParams(f"a topic has at most {MAX_TOPIC_BYTES} characters, and {MAX_WORDS} words with dots between")
    return f"{EVENTS}{topic}"


def _notification(method: str, params: Any) -> str:
    return dump_json({"jsonrpc": "2.0", "method": method, "params": params})


_OWN: dict[str, Callable[[JsonRpc, str, Any], Sequence[Incoming]]] = {
    "$/cancelRequest": JsonRpc._cancel,
    "rpc.ping": JsonRpc._ping,
    "rpc.subscribe": JsonRpc._subscribe,
    "rpc.unsubscribe": JsonRpc._unsubscribe,
    "rpc.event": JsonRpc._event,
    "rpc.emit": JsonRpc._event,
}
