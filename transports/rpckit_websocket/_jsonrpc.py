"""JSON-RPC 2.0 over WebSocket (jsonrpc.org/specification), with a cancel as editors know it. Pure.

A method's name is `address.method`, or the bare method. Beside the specification::

    $/cancelRequest  {id}               notification: the call's work ends, and is answered -32800
    rpc.ping         request            answered "pong": a browser cannot send ping frames
    rpc.subscribe    [topic]            request; rpc.unsubscribe likewise
    rpc.event        {topic, params}    notification, to subscribers
    rpc.emit         {topic, params}    notification, to the server

Errors carry what a fault has beyond code and message in `data`, `data.code` being the fault's own code.
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
from rpckit.fault import JSONRPC_CODES, JSONRPC_OTHER
from rpckit.message import Kind, Message
from rpckit.topics import EVENTS, MAX_TOPIC_BYTES, MAX_WORDS, in_bounds, user_topic

from ._dialect import (
    BadFrame,
    Control,
    Frame,
    Incoming,
    Ping,
    Pong,
    Receipt,
    Settled,
    Subscribe,
    Undelivered,
    Unsubscribe,
    as_text,
    dump_json,
    json_body,
    json_fault,
    load_json,
    native_body,
    open_body,
)
from ._options import JSONRPC, MAX_MESSAGE

__all__ = ["JsonRpc"]

NULL = "null"  # as an id: none that an answer could be told by
PING = "rpckit-ping-"  # before the ids of our own heartbeats
MAX_BATCH = 1000  # messages of one batch
MAX_HELD_BACK = 1_000_000  # bytes of answers that wait for the others of their batches; or what one frame may have
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
CANCELLED = -32800  # of the language server protocol, as `$/cancelRequest` is
_CODE_OF = {number: code for code, number in JSONRPC_CODES.items()}


class _Batch:
    """Answers to one array: they leave together when the last one is there.

    size: bytes of those that are here, and for each other one room for the error that can always take its place.
    """

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.open = 0
        self.size = 0

    def expect(self, correlation_id: str) -> None:
        self.open += 1
        self.size += _room_kept(correlation_id)

    def add(self, answer: str) -> None:
        self.answers.append(answer)
        self.size += _size(answer)

    def settle(self, correlation_id: str, answer: str) -> None:
        self.open -= 1
        self.size -= _room_kept(correlation_id)
        self.add(answer)

    def frame(self) -> str | None:
        return f"[{','.join(self.answers)}]" if self.answers and not self.open else None


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
        "_max_answers",
        "_max_held_back",
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
        self._open: dict[str, _Batch | None] = {}  # by the ids of unanswered requests
        self._cancelled: set[str] = set()  # of those
        self._max_answers = max_message - 1  # bytes: each answer is counted with a comma, so the brackets add one
        self._max_held_back = max(MAX_HELD_BACK, max_message)
        self._held_back = 0  # bytes: the sizes of all batches that are not yet answered
        self._nulls = count(1)  # an id of null is no id: each such request gets one here

    # -- reading ------------------------------------------------------------------------------

    def read(self, frame: Frame) -> Sequence[Incoming]:
        self._binary = self._only_binary or type(frame) is bytes
        try:
            value = load_json(frame)
        except BadFrame as error:
            raise BadFrame(str(error), self._framed(_error(None, PARSE_ERROR, "not JSON"))) from error
        if isinstance(value, list):
            return self._batch(value)
        try:
            incoming = self._one(value)
        except _Invalid as error:
            raise BadFrame(str(error), self._framed(_error(error.id, error.code, str(error)))) from error
        for item in incoming:
            if key := _wants_answer(item):
                self._open[key] = None
        return incoming

    def _batch(self, values: list[Any]) -> Sequence[Incoming]:
        if not values or len(values) > MAX_BATCH:
            why = f"a batch holds 1 to {MAX_BATCH} messages"
            raise BadFrame(why, self._framed(_error(None, INVALID_REQUEST, why)))
        batch = _Batch()
        incoming: list[Incoming] = []
        for value in values:
            try:
                each = self._one(value)
            except _Invalid as error:
                batch.add(_error(error.id, error.code, str(error)))
                continue
            for item in each:
                if key := _wants_answer(item):
                    self._open[key] = batch
                    batch.expect(key)
            incoming += each
        if self._has_no_room(batch.size, batch.size):
            raise self._batch_refused(incoming)
        if batch.open:
            self._held_back += batch.size
        elif batch.answers:
            raise BadFrame("a batch without a valid request", self._framed(str(batch.frame())), incoming)
        return incoming

    def _has_no_room(self, size: int, more: int) -> bool:
        """For a batch of `size` bytes that is to wait with `more` than is counted of it."""
        return size > self._max_answers or self._held_back + more > self._max_held_back

    def _batch_refused(self, incoming: Sequence[Incoming]) -> BadFrame:
        """Not even errors would have room. What wants no answer is taken all the same."""
        for key in filter(None, map(_wants_answer, incoming)):
            del self._open[key]
            self._cancelled.discard(key)
        why = "no request of this batch ran: its answers might have no room; send fewer at once, or wait for the others"
        answer = self._framed(_error(None, JSONRPC_CODES[Code.RESOURCE_EXHAUSTED], why))
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
            Kind.FAULT, "", correlation_id=correlation_id, content_type=codec.JSON, body=_fault_body(value["error"])
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
            text = _result_text(message.correlation_id, as_text(message))
        elif message.kind is Kind.FAULT:
            text = _fault_text(message)
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
                return self._settled(token, _result_text(token, '"pong"'))
            case Undelivered(correlation_id, why):
                return self._settled(correlation_id, _error_text(correlation_id, METHOD_NOT_FOUND, why))
            case Subscribe(topic):
                return self._framed(self._own_request("rpc.subscribe", topic))
            case Unsubscribe(topic):
                return self._framed(self._own_request("rpc.unsubscribe", topic))
            case Settled(correlation_id):
                if correlation_id in self._cancelled:
                    return self._settled(correlation_id, _error_text(correlation_id, CANCELLED, "cancelled"))
                return self._settled(correlation_id, _result_text(correlation_id, NULL))
            case Receipt():
                return None
        return None

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
        if batch is None:
            return self._framed(text)
        more = _size(text) - _room_kept(correlation_id)
        if self._has_no_room(batch.size + more, more if batch.open > 1 else 0):  # the last one does not wait
            text, more = _without_room(correlation_id), 0
        batch.settle(correlation_id, text)
        self._held_back += more
        if not batch.open:
            self._held_back -= batch.size
        return self._framed(batch.frame())

    def _framed(self, text: str | None) -> Frame | None:
        return text.encode() if text is not None and self._binary else text


class _Invalid(Exception):
    def __init__(self, why: str, identity: Any, code: int = INVALID_REQUEST) -> None:
        super().__init__(why)
        self.id = identity if _is_id(identity) else None
        self.code = code


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


def _error(identity: Any, code: int, text: str) -> str:
    return _error_text(json.dumps(identity), code, text)


def _error_text(correlation_id: str, code: int, text: str) -> str:
    error = dump_json({"code": code, "message": text})
    return f'{{"jsonrpc":"2.0","id":{_id_text(correlation_id)},"error":{error}}}'


def _without_room(correlation_id: str) -> str:
    """Instead of an answer that does not fit in beside the others of its batch."""
    why = "the answers of its batch are too large; it may have run"
    return _error_text(correlation_id, JSONRPC_CODES[Code.DATA_LOSS], why)


def _room_kept(correlation_id: str) -> int:
    """Bytes of that, with a comma."""
    return _WITHOUT_ROOM + len(_id_text(correlation_id))


def _size(answer: str) -> int:
    """Bytes, with a comma."""
    return (len(answer) if answer.isascii() else len(answer.encode())) + 1


def _result_text(correlation_id: str, result: str) -> str:
    return f'{{"jsonrpc":"2.0","id":{_id_text(correlation_id)},"result":{result}}}'


def _id_text(correlation_id: str) -> str:
    """No other id's JSON begins with an n."""
    return NULL if correlation_id.startswith(NULL) else correlation_id


def _fault_text(message: Message) -> str:
    fault = json_fault(message)
    data = {name: value for name, value in fault.items() if name != "message" and value not in (None, "", False)}
    error = {
        "code": JSONRPC_CODES.get(str(fault["code"]), JSONRPC_OTHER),
        "message": str(fault["message"]),
        "data": data,
    }
    try:
        text = dump_json(error)
    except UsageError:  # details may hold what JSON does not
        text = dump_json(error | {"data": {"code": str(fault["code"])}})
    return f'{{"jsonrpc":"2.0","id":{_id_text(message.correlation_id)},"error":{text}}}'


def _fault_body(error: Any) -> bytes:
    """A fault of ours from an error object: from its `data`, if it came from rpckit, else by its number."""
    error = error if isinstance(error, dict) else {"message": str(error)}
    data = error.get("data")
    known = dict(data) if isinstance(data, dict) and isinstance(data.get("code"), str) else {}
    number = error.get("code")
    code = known.get("code") or (_CODE_OF.get(number, Code.UNKNOWN) if isinstance(number, int) else Code.UNKNOWN)
    details = known.get("details") or ({"jsonrpc_code": number, "data": data} if not known else None)
    fault = {**known, "code": str(code), "message": str(error.get("message", "")), "details": details}
    return json_body(fault)


_WITHOUT_ROOM = _size(_without_room(""))  # bytes, to which those of the id come; an id is written in ASCII
_OWN: dict[str, Callable[[JsonRpc, str, Any], Sequence[Incoming]]] = {
    "$/cancelRequest": JsonRpc._cancel,
    "rpc.ping": JsonRpc._ping,
    "rpc.subscribe": JsonRpc._subscribe,
    "rpc.unsubscribe": JsonRpc._unsubscribe,
    "rpc.event": JsonRpc._event,
    "rpc.emit": JsonRpc._event,
}
