"""JSON-RPC 2.0: requests, batches, errors, its own methods, faults both ways; no stranger's JSON breaks the reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpckit import codec
from rpckit.bodies import write_arguments
from rpckit.call import cancel_topic
from rpckit.errors import Code, UsageError
from rpckit.fault import JSONRPC_CODES, Fault, fault_message, read_fault
from rpckit.message import NATIVE, PLAIN, Kind, Message
from rpckit.topics import event_topic
from rpckit_websocket import _jsonrpc
from rpckit_websocket._dialect import (
    BadFrame,
    Frame,
    Hello,
    Incoming,
    Ping,
    Pong,
    Receipt,
    Settled,
    Subscribe,
    Undelivered,
    Unsubscribe,
)
from rpckit_websocket._jsonrpc import MAX_BATCH, JsonRpc

PEER = "their session"


@pytest.fixture
def rpc() -> JsonRpc:
    return JsonRpc(PEER)


def asked(id_: Any = 1, method: Any = "q.fib", **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, **more}


def note(method: str = "q.fib", **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, **more}


def read(rpc: JsonRpc, *values: Any, batch: bool = False) -> Sequence[Incoming]:
    return rpc.read(json.dumps(list(values) if batch else values[0]))


def request(rpc: JsonRpc, id_: Any = 1, method: Any = "q.fib", **more: Any) -> Message:
    (item,) = read(rpc, asked(id_, method, **more))
    assert isinstance(item, Message)
    return item


def loaded(frame: Frame | None) -> Any:
    assert frame is not None
    return json.loads(frame)


def refused(rpc: JsonRpc, *values: Any, batch: bool = False) -> Any:
    """What a bad frame is answered."""
    with pytest.raises(BadFrame) as caught:
        read(rpc, *values, batch=batch)
    return loaded(caught.value.answer)


def reply(request: Message, value: Any) -> Message:
    return request.reply(Kind.REPLY, json.dumps(value).encode(), codec.JSON)


def call(method: str, *args: Any, **kwargs: Any) -> Message:
    body, content_type = write_arguments(NATIVE, "", args, kwargs)
    return Message(Kind.REQUEST, "q", method, "m", "c-1", "inbox", content_type, body=body)


# --- requests ------------------------------------------------------------------------------------


def test_a_request_is_a_native_one_with_json_inside(rpc: JsonRpc) -> None:
    assert request(rpc, 7, params=[1, "ü"]) == Message(
        Kind.REQUEST, "q", "fib", "", "7", PEER, codec.JSON, body=b'{"args":[1,"\\u00fc"],"kwargs":{}}'
    )


def test_params_go_by_position_or_by_name_or_are_none(rpc: JsonRpc) -> None:
    bodies = [json.loads(request(rpc, n, **more).body) for n, more in enumerate([{"params": {"n": 3}}, {}])]
    assert bodies == [{"args": [], "kwargs": {"n": 3}}, {"args": [], "kwargs": {}}]


@pytest.mark.parametrize(
    "method, parts", [("fib", ("", "fib")), ("q.fib", ("q", "fib")), ("a.b.fib", ("a.b", "fib")), ("", ("", ""))]
)
def test_the_last_dot_parts_address_and_method(rpc: JsonRpc, method: str, parts: tuple[str, str]) -> None:
    message = request(rpc, method=method)
    assert (message.address, message.method) == parts


@pytest.mark.parametrize("id_", [0, 1, -5, 1.5, 10**30, "", "a", "ü", '"', "\ud800", None])
def test_an_id_comes_back_as_it_was(rpc: JsonRpc, id_: Any) -> None:
    answer = loaded(rpc.write(reply(request(rpc, id_), 5)))
    assert answer == {"jsonrpc": "2.0", "id": id_, "result": 5}
    assert type(answer["id"]) is type(id_)


def test_a_notification_wants_no_reply(rpc: JsonRpc) -> None:
    (item,) = read(rpc, note())
    assert isinstance(item, Message)
    assert (item.correlation_id, item.reply_to) == ("", "")


def test_requests_with_a_null_id_are_told_apart(rpc: JsonRpc) -> None:
    one, other = request(rpc, None), request(rpc, None)
    assert one.correlation_id != other.correlation_id
    assert [loaded(rpc.write(reply(each, n)))["id"] for n, each in enumerate([one, other])] == [None, None]


def test_an_id_in_use_is_refused_until_it_is_answered(rpc: JsonRpc) -> None:
    first = request(rpc, 1)
    assert refused(rpc, asked(1)) == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": -32600, "message": "this id is in use"},
    }
    rpc.write(reply(first, 5))
    assert request(rpc, 1) == first


def test_one_and_one_as_text_are_two_ids(rpc: JsonRpc) -> None:
    assert request(rpc, 1).correlation_id != request(rpc, "1").correlation_id


@pytest.mark.parametrize(
    "value, id_",
    [
        (5, None),
        (None, None),
        ("text", None),
        ({}, None),
        ({"jsonrpc": "1.0", "id": 1, "method": "m"}, 1),
        ({"id": 1, "method": "m"}, 1),
        (asked(1, method=5), 1),
        ({"jsonrpc": "2.0", "id": 1}, 1),
        (asked(1, params=5), 1),
        (asked(1, params=None), 1),
        (asked(1, params="text"), 1),
        (asked(True), None),
        (asked([]), None),
        (asked({}), None),
        (asked(float("nan")), None),
        (asked(float("inf")), None),
        (asked(float("nan"), params=5), None),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_is_no_request_is_answered_so(rpc: JsonRpc, value: Any, id_: Any) -> None:
    answer = refused(rpc, value)
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", id_, -32600)


@pytest.mark.parametrize("frame", ["", "{", "nonsense", b"\xff", "[" * 100_000])
def test_what_is_no_json_is_answered_so(rpc: JsonRpc, frame: Frame) -> None:
    with pytest.raises(BadFrame) as caught:
        rpc.read(frame)
    answer = caught.value.answer
    assert type(answer) is type(frame)
    assert (loaded(answer)["id"], loaded(answer)["error"]["code"]) == (None, -32700)


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_is_answered_when_its_last_answer_is_there(rpc: JsonRpc) -> None:
    one, _, three = read(rpc, asked(1), note(), asked(2), batch=True)
    assert isinstance(one, Message)
    assert isinstance(three, Message)
    assert rpc.write(reply(three, "b")) is None
    assert loaded(rpc.write(reply(one, "a"))) == [
        {"jsonrpc": "2.0", "id": 2, "result": "b"},
        {"jsonrpc": "2.0", "id": 1, "result": "a"},
    ]


def test_errors_of_a_batch_are_answered_with_the_rest(rpc: JsonRpc) -> None:
    (only,) = read(rpc, 5, asked(1), {"id": 2}, batch=True)
    assert isinstance(only, Message)
    answers = loaded(rpc.write(reply(only, "a")))
    assert [(each["id"], "error" in each) for each in answers] == [(None, True), (2, True), (1, False)]


def test_two_of_one_id_in_a_batch_are_one_call_and_one_error(rpc: JsonRpc) -> None:
    (only,) = read(rpc, asked(1), asked(1), batch=True)
    assert isinstance(only, Message)
    answers = loaded(rpc.write(reply(only, "a")))
    assert [("error" in each, each["id"]) for each in answers] == [(True, 1), (False, 1)]


def test_an_id_of_an_unanswered_batch_is_refused_outside_of_it(rpc: JsonRpc) -> None:
    read(rpc, asked(1), asked(2), batch=True)
    assert refused(rpc, asked(2))["error"]["code"] == -32600


def test_notifications_alone_are_not_answered(rpc: JsonRpc) -> None:
    assert len(read(rpc, note(), note(), batch=True)) == 2


def test_nothing_readable_is_answered_at_once_and_notifications_run_all_the_same(rpc: JsonRpc) -> None:
    with pytest.raises(BadFrame) as caught:
        read(rpc, 1, note(), 2, batch=True)
    assert [each["error"]["code"] for each in loaded(caught.value.answer)] == [-32600, -32600]
    (kept,) = caught.value.rest
    assert isinstance(kept, Message)
    assert kept.method == "fib"


@pytest.mark.parametrize("size", [0, MAX_BATCH + 1])
def test_a_batch_has_its_size(rpc: JsonRpc, size: int) -> None:
    assert refused(rpc, *[note()] * size, batch=True)["error"]["code"] == -32600
    assert len(read(rpc, *[note()] * MAX_BATCH, batch=True)) == MAX_BATCH


def test_a_ping_in_a_batch_is_answered_in_it(rpc: JsonRpc) -> None:
    ping, only = read(rpc, asked(1, "rpc.ping"), asked(2), batch=True)
    assert ping == Ping("1")
    assert isinstance(only, Message)
    assert rpc.write_control(Pong("1")) is None
    assert [each["id"] for each in loaded(rpc.write(reply(only, 0)))] == [1, 2]


def test_a_fault_and_an_undelivered_and_a_cancelled_request_complete_a_batch(rpc: JsonRpc) -> None:
    items = read(rpc, asked(1), asked(2), asked(3), note("$/cancelRequest", params={"id": 3}), batch=True)
    assert rpc.write(fault_message(_message(items[0]), Fault(Code.NOT_FOUND, "no"))) is None
    assert rpc.write_control(Undelivered("2", "nobody")) is None
    answers = loaded(rpc.write_control(Settled("3")))
    assert [(each["id"], each["error"]["code"]) for each in answers] == [(1, -32006), (2, -32601), (3, -32800)]


def _message(item: Incoming) -> Message:
    assert isinstance(item, Message)
    return item


# --- its own methods -----------------------------------------------------------------------------


def test_a_cancel_names_the_request_and_its_caller(rpc: JsonRpc) -> None:
    request(rpc, "x")
    items = read(rpc, note("$/cancelRequest", params={"id": "x"}))
    assert items == (Message(Kind.CANCEL, "", correlation_id='"x"', reply_to=PEER),)
    answer = loaded(rpc.write_control(Settled('"x"')))
    assert answer == {"jsonrpc": "2.0", "id": "x", "error": {"code": -32800, "message": "cancelled"}}


@pytest.mark.parametrize("params", [{"id": 2}, {"id": None}, {"id": [1]}, {"id": True}, {}, [], [1]])
def test_a_cancel_of_nothing_is_nothing(rpc: JsonRpc, params: Any) -> None:
    request(rpc, 1)
    assert not read(rpc, note("$/cancelRequest", params=params))


def test_a_cancel_of_what_was_answered_is_nothing(rpc: JsonRpc) -> None:
    rpc.write(reply(request(rpc, 1), 5))
    assert not read(rpc, note("$/cancelRequest", params={"id": 1}))


def test_a_request_that_ends_without_an_answer_is_answered_null(rpc: JsonRpc) -> None:
    request(rpc, 1)
    assert loaded(rpc.write_control(Settled("1"))) == {"jsonrpc": "2.0", "id": 1, "result": None}


def test_an_id_that_was_cancelled_can_be_used_again(rpc: JsonRpc) -> None:
    request(rpc, 1)
    read(rpc, note("$/cancelRequest", params={"id": 1}))
    rpc.write_control(Settled("1"))
    request(rpc, 1)
    assert "result" in loaded(rpc.write_control(Settled("1")))


def test_a_ping_is_answered_pong(rpc: JsonRpc) -> None:
    assert read(rpc, asked(5, "rpc.ping")) == (Ping("5"),)
    assert loaded(rpc.write_control(Pong("5"))) == {"jsonrpc": "2.0", "id": 5, "result": "pong"}
    assert not read(rpc, note("rpc.ping"))


@pytest.mark.parametrize("params", [["t"], {"topic": "t"}])
def test_a_subscription_is_a_request_that_is_answered(rpc: JsonRpc, params: Any) -> None:
    assert read(rpc, asked(1, "rpc.subscribe", params=params)) == (Subscribe(event_topic("t")), Ping("1"))
    assert read(rpc, asked(2, "rpc.unsubscribe", params=params)) == (Unsubscribe(event_topic("t")), Ping("2"))
    assert read(rpc, note("rpc.subscribe", params=params)) == (Subscribe(event_topic("t")),)


@pytest.mark.parametrize("topic", ["fanout:logs", "direct:half", "rpckit.cancel.x", "#"])
def test_whatever_a_peer_calls_a_topic_it_is_one_of_users(rpc: JsonRpc, topic: str) -> None:
    assert read(rpc, note("rpc.subscribe", params=[topic])) == (Subscribe(f"rpckit.event.{topic}"),)


@pytest.mark.parametrize(
    "params",
    [[], {}, [5], [""], {"topic": ""}, {"topic": None}, [None, "t"], [".".join("a" * 33)], {"topic": "a" * 241}],
)
@pytest.mark.parametrize("method", ["rpc.subscribe", "rpc.unsubscribe", "rpc.emit", "rpc.event"])
def test_a_topic_is_text_within_its_bounds(rpc: JsonRpc, method: str, params: Any) -> None:
    answer = refused(rpc, asked(3, method, params=params))
    assert (answer["id"], answer["error"]["code"]) == (3, -32602)
    assert not read(rpc, note(method, params=params))
    assert len(read(rpc, asked(3))) == 1, "the id is free"


@pytest.mark.parametrize("method", ["rpc.emit", "rpc.event"])
@pytest.mark.parametrize(
    "inner, arguments",
    [
        ({"params": [1]}, {"args": [1], "kwargs": {}}),
        ({"params": {"n": 1}}, {"args": [], "kwargs": {"n": 1}}),
        ({"params": 1}, {"args": [1], "kwargs": {}}),
        ({"params": None}, {"args": [None], "kwargs": {}}),
        ({}, {"args": [], "kwargs": {}}),
    ],
)
def test_an_event_is_one_on_the_users_topic(rpc: JsonRpc, method: str, inner: Any, arguments: Any) -> None:
    (event,) = read(rpc, note(method, params={"topic": "news", **inner}))
    assert isinstance(event, Message)
    assert (event.kind, event.address, event.content_type) == (Kind.EVENT, event_topic("news"), codec.JSON)
    assert json.loads(event.body) == arguments


@pytest.mark.parametrize("dialled, name", [(True, "rpc.emit"), (False, "rpc.event")])
def test_events_come_from_the_side_that_listens_and_are_emitted_by_the_other(dialled: bool, name: str) -> None:
    event = Message(Kind.EVENT, content_type=codec.MSGPACK, body=msgpack.packb({"args": [1, "ü"], "kwargs": {}}))
    for frame in (JsonRpc(dialled=dialled).event(event_topic("news"), event),):
        assert loaded(frame) == note(name, params={"topic": "news", "params": [1, "ü"]})


def test_our_own_words() -> None:
    rpc = JsonRpc(PEER, dialled=True)
    ping = loaded(rpc.write_control(Ping("t")))
    assert ping["method"] == "rpc.ping"
    assert read(rpc, {"jsonrpc": "2.0", "id": ping["id"], "result": "pong"}) == (Pong("t"),)
    assert read(rpc, {"jsonrpc": "2.0", "id": ping["id"], "error": {"code": -32601, "message": ""}}) == (Pong("t"),)
    for control, method in ((Subscribe, "rpc.subscribe"), (Unsubscribe, "rpc.unsubscribe")):
        said = loaded(rpc.write_control(control(event_topic("news"))))
        assert (said["method"], said["params"]) == (method, ["news"])
        assert isinstance(read(rpc, {"jsonrpc": "2.0", "id": said["id"], "result": "pong"})[0], Pong)
        assert rpc.write_control(control(cancel_topic("q"))) is None, "cancels need no subscription"


def test_there_are_no_greetings_and_no_receipts(rpc: JsonRpc) -> None:
    assert not rpc.greets
    assert rpc.write_control(Hello("id")) is None
    assert rpc.write_control(Receipt("m")) is None


# --- calling the other side ----------------------------------------------------------------------


def test_a_call_is_written_by_position_or_by_name(rpc: JsonRpc) -> None:
    assert loaded(rpc.write(call("fib", 1, "ü"))) == asked("c-1", params=[1, "ü"])
    assert loaded(rpc.write(call("fib", n=1))) == asked("c-1", params={"n": 1})
    with pytest.raises(UsageError, match="not both"):
        rpc.write(call("fib", 1, n=1))


def test_a_call_without_reply_is_a_notification(rpc: JsonRpc) -> None:
    message = call("fib")
    message.reply_to = ""
    assert loaded(rpc.write(message)) == note(params=[])


def test_a_bare_call_has_no_dot(rpc: JsonRpc) -> None:
    message = call("fib")
    message.address = ""
    assert loaded(rpc.write(message))["method"] == "fib"


def test_a_raw_body_is_the_single_argument(rpc: JsonRpc) -> None:
    message = Message(Kind.REQUEST, "q", "fib", body=b"30", dialect=PLAIN)
    assert loaded(rpc.write(message))["params"] == [30]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        codec.encode(codec.MSGPACK, {"args": [b"\xff"], "kwargs": {}}),
        codec.encode(codec.MSGPACK, {"args": 5, "kwargs": {}}),
        codec.encode(codec.MSGPACK, {"args": [], "kwargs": [1]}),
        codec.encode(codec.MSGPACK, {"args": [float("nan")], "kwargs": {}}),
        b"\xc1",
    ],
)
def test_what_json_has_not_is_a_usage_error(rpc: JsonRpc, body: bytes) -> None:
    content_type = "" if body == b"\xff\xfe" else codec.MSGPACK
    with pytest.raises(UsageError):
        rpc.write(Message(Kind.REQUEST, "q", "fib", content_type=content_type, body=body))
    with pytest.raises(UsageError):
        rpc.event("t", Message(Kind.EVENT, content_type=content_type, body=body))


@pytest.mark.parametrize("kind", [Kind.ITEM, Kind.END, Kind.CREDIT])
def test_streams_cannot_be_said(rpc: JsonRpc, kind: Kind) -> None:
    with pytest.raises(UsageError, match="JSON-RPC has no"):
        rpc.write(Message(kind, correlation_id="1"))


def test_a_cancel_names_our_id(rpc: JsonRpc) -> None:
    cancel = Message(Kind.CANCEL, "q", correlation_id="c-1")
    for frame in (rpc.write(cancel), rpc.event(cancel_topic("q"), cancel)):
        assert loaded(frame) == note("$/cancelRequest", params={"id": "c-1"})


@pytest.mark.parametrize("value", [5, None, "ü", "\ud800", [1, {"a": None}], float("nan")])
def test_a_reply_is_read(rpc: JsonRpc, value: Any) -> None:
    (item,) = read(rpc, {"jsonrpc": "2.0", "id": "c-1", "result": value})
    assert isinstance(item, Message)
    assert (item.kind, item.correlation_id) == (Kind.REPLY, "c-1")
    assert repr(codec.decode(item.content_type, item.body)) == repr(value)


@pytest.mark.parametrize("id_", [None, 5, [], {}, True])
def test_an_answer_to_no_call_of_ours_has_no_correlation_id(rpc: JsonRpc, id_: Any) -> None:
    for answer in ({"result": 1}, {"error": {"code": 1, "message": ""}}):
        (item,) = read(rpc, {"jsonrpc": "2.0", "id": id_, **answer})
        assert isinstance(item, Message)
        assert item.correlation_id == ""


# --- faults --------------------------------------------------------------------------------------

FAULT = Fault(Code.NOT_FOUND, "no ü", "Missing", {"n": 1}, True, "rpckit", "e-1")


@pytest.mark.parametrize("content_type", [codec.JSON, codec.MSGPACK])
def test_a_fault_survives_both_ways(content_type: str) -> None:
    here, there = JsonRpc("here"), JsonRpc("there")
    sent = call("fib")
    (there_request,) = there.read(here.write(sent) or "")
    request = _message(there_request)
    request.content_type = content_type
    frame = there.write(fault_message(request, FAULT))
    assert loaded(frame)["error"]["code"] == JSONRPC_CODES[Code.NOT_FOUND]
    (answer,) = here.read(frame or "")
    assert _message(answer).correlation_id == sent.correlation_id
    assert read_fault(_message(answer)) == FAULT


@pytest.mark.parametrize("code", [code for code in Code if code in JSONRPC_CODES])
def test_each_code_has_its_number_and_back(rpc: JsonRpc, code: Code) -> None:
    error = loaded(rpc.write(fault_message(request(rpc), Fault(code, "text"))))["error"]
    assert (error["code"], error["message"], error["data"]["code"]) == (JSONRPC_CODES[code], "text", code)
    (item,) = read(rpc, {"jsonrpc": "2.0", "id": "c", "error": {"code": JSONRPC_CODES[code], "message": "text"}})
    assert read_fault(_message(item)).code == code


def test_a_code_without_a_number_travels_in_the_data(rpc: JsonRpc) -> None:
    error = loaded(rpc.write(fault_message(request(rpc), Fault("MY_OWN", "text"))))["error"]
    assert (error["code"], error["data"]["code"]) == (-32000, "MY_OWN")


def test_details_that_json_has_not_are_left_out(rpc: JsonRpc) -> None:
    message = request(rpc)
    message.content_type = codec.MSGPACK
    error = loaded(rpc.write(fault_message(message, Fault("MY_OWN", "text", details={"raw": b"\xff"}))))["error"]
    assert error == {"code": -32000, "message": "text", "data": {"code": "MY_OWN"}}


@pytest.mark.parametrize(
    "error, code, text",
    [
        ({"code": -32601, "message": "no such method"}, Code.UNIMPLEMENTED, "no such method"),
        ({"code": 12345, "message": "theirs"}, Code.UNKNOWN, "theirs"),
        ({"code": "12", "message": 5}, Code.UNKNOWN, "5"),
        ({"code": [], "data": []}, Code.UNKNOWN, ""),
        ({"data": {"code": 5}}, Code.UNKNOWN, ""),
        ("text", Code.UNKNOWN, "text"),
        (5, Code.UNKNOWN, "5"),
        (False, Code.UNKNOWN, "False"),
        ({"code": 1, "message": "\ud800"}, Code.UNKNOWN, "\ud800"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_strangers_error_is_a_fault(rpc: JsonRpc, error: Any, code: str, text: str) -> None:
    (item,) = read(rpc, {"jsonrpc": "2.0", "id": "c", "error": error})
    fault = read_fault(_message(item))
    assert (fault.code, fault.message) == (code, text)


def test_a_strangers_number_and_data_are_kept_in_the_details(rpc: JsonRpc) -> None:
    (item,) = read(rpc, {"jsonrpc": "2.0", "id": "c", "error": {"code": 7, "message": "", "data": [1]}})
    assert read_fault(_message(item)).details == {"jsonrpc_code": 7, "data": [1]}


def test_an_error_of_null_is_none(rpc: JsonRpc) -> None:
    (item,) = read(rpc, {"jsonrpc": "2.0", "id": "c", "result": 5, "error": None})
    assert _message(item).kind is Kind.REPLY


def test_a_request_nobody_serves_is_answered_so(rpc: JsonRpc) -> None:
    request(rpc, 1)
    error = loaded(rpc.write_control(Undelivered("1", "nobody")))["error"]
    assert error == {"code": -32601, "message": "nobody"}


def test_a_result_that_json_has_not_is_a_usage_error_and_can_still_be_answered(rpc: JsonRpc) -> None:
    message = request(rpc, 1)
    with pytest.raises(UsageError):
        rpc.write(message.reply(Kind.REPLY, b"\xff", codec.BYTES))
    assert loaded(rpc.write(fault_message(message, FAULT)))["id"] == 1


# --- strangers -----------------------------------------------------------------------------------

text = st.text(max_size=8) | st.just("\ud800")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
methods = st.sampled_from(
    [
        "q.fib",
        "fib",
        ".",
        "",
        "$/cancelRequest",
        "rpc.ping",
        "rpc.subscribe",
        "rpc.unsubscribe",
        "rpc.event",
        "rpc.emit",
    ]
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | values,
        "id": st.sampled_from([1, "1", None, "rpckit-ping-x"]) | values,
        "method": methods | values,
        "params": st.dictionaries(st.sampled_from(["topic", "params", "id"]), values) | st.lists(values) | values,
        "result": values,
        "error": st.fixed_dictionaries({}, optional={"code": values, "message": values, "data": values}) | values,
    },
)


@settings(max_examples=2 * settings().max_examples)
@given(st.lists(st.one_of(values, messages, st.lists(messages | values, max_size=4)), max_size=4), st.booleans())
def test_no_strangers_json_raises_anything_but_bad_frame(frames: list[Any], binary: bool) -> None:
    rpc = JsonRpc(PEER)
    for value in frames:
        frame = json.dumps(value)
        survives(rpc, frame.encode() if binary else frame)


@given(st.text(max_size=40) | st.binary(max_size=40))
def test_no_strangers_frame_raises_anything_but_bad_frame(frame: Frame) -> None:
    survives(JsonRpc(PEER), frame)


@pytest.mark.parametrize(
    "form",
    [
        '{"jsonrpc":"2.0","method":"x","params":%s,"id":1}',
        '{"jsonrpc":"2.0","method":"rpc.event","params":{"topic":"t","params":%s}}',
        '{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%s}}',
        '{"jsonrpc":"2.0","method":"x","id":%s}',
        '{"id":"x","result":%s}',
        '{"id":"x","error":%s}',
    ],
)
def test_however_deep_it_is_nested(form: str) -> None:
    for depth in (300, 900, 980, 1000, 100_000):
        survives(JsonRpc(PEER), form % ("[" * depth + "]" * depth))


def survives(rpc: JsonRpc, frame: Frame) -> None:
    """Read or refused; what is said to it is JSON that can be sent."""
    said: list[Frame | None] = []
    items: Sequence[Incoming]
    try:
        items = rpc.read(frame)
    except BadFrame as error:
        said.append(error.answer)
        items = error.rest
    for item in items:
        if isinstance(item, Ping):
            said.append(rpc.write_control(Pong(item.token)))
        elif isinstance(item, Message) and item.kind is Kind.REQUEST and item.correlation_id:
            said.append(rpc.write(fault_message(item, Fault(Code.INTERNAL, "no"))))
        elif isinstance(item, Message) and item.kind is Kind.FAULT:
            read_fault(item)
    for each in said:
        if each is not None:
            (each.encode() if isinstance(each, str) else each).decode()
            json.loads(each, parse_constant=pytest.fail)


# --- the room that batches have ------------------------------------------------------------------


def batch(rpc: JsonRpc, *ids: Any) -> list[Message]:
    return [_message(item) for item in read(rpc, *map(asked, ids), batch=True)]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("character, fit", [("x", 4), ("漢", 1)])
def test_answers_too_large_for_one_frame_are_errors_in_the_array(binary: bool, character: str, fit: int) -> None:
    rpc = JsonRpc(PEER, binary=binary, max_message=3000)
    *before, last = [rpc.write(reply_text(each, character * 600)) for each in batch(rpc, 1, 2, 3, 4, 5, 6)]
    assert before == [None] * 5
    assert last is not None
    assert len(last if isinstance(last, bytes) else last.encode()) <= 3000
    codes = [each.get("error", {}).get("code") for each in loaded(last)]
    assert codes == [None] * fit + [-32007] * (6 - fit)


def test_the_last_answer_is_an_error_in_the_array_if_it_alone_is_too_much() -> None:
    rpc = JsonRpc(PEER, max_message=2000)
    one, two = batch(rpc, 1, 2)
    assert rpc.write(reply_text(one, "x" * 1000)) is None
    answers = loaded(rpc.write(reply_text(two, "x" * 1000)))
    assert [(each["id"], "error" in each) for each in answers] == [(1, False), (2, True)]
    assert "may have run" in answers[1]["error"]["message"]


def test_an_answer_that_fits_to_the_byte_is_given() -> None:
    expected = '[{"jsonrpc":"2.0","id":1,"result":"xx"},{"jsonrpc":"2.0","id":2,"result":"%s"}]'
    rpc = JsonRpc(PEER, max_message=len(expected % ("é" * 200)) + 200)
    one, two = batch(rpc, 1, 2)
    assert rpc.write(reply_text(one, "xx")) is None
    assert rpc.write(reply_text(two, "é" * 200)) == expected % ("é" * 200)
    one, two = batch(rpc, 1, 2)
    assert rpc.write(reply_text(one, "xxx")) is None
    assert "error" in loaded(rpc.write(reply_text(two, "é" * 200)))[1]


def test_a_batch_is_refused_before_it_runs_where_not_even_errors_have_room() -> None:
    rpc = JsonRpc(PEER, max_message=3000)
    for many in ([asked(n) for n in range(40)], [asked("x" * 3000)], [1] * 40):
        answer = refused(rpc, note(), *many, batch=True)
        assert (answer["id"], answer["error"]["code"]) == (None, -32002)
        assert "no request of this batch ran" in answer["error"]["message"]
    with pytest.raises(BadFrame) as caught:
        read(rpc, note(), *[asked(n) for n in range(40)], note("$/cancelRequest", params={"id": 1}), batch=True)
    assert [_message(item).correlation_id for item in caught.value.rest] == ["", "1"], "these want no answer"
    one, _ = batch(rpc, 1, 2)
    assert rpc.write(reply(one, 5)) is None
    assert loaded(rpc.write_control(Settled("2")))[1] == {"jsonrpc": "2.0", "id": 2, "result": None}, "not cancelled"
    assert len(read(rpc, *[note()] * 500, batch=True)) == 500


def test_what_waits_is_bounded_over_all_batches_and_each_caller_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jsonrpc, "MAX_HELD_BACK", 4000)
    rpc = JsonRpc(PEER, max_message=3000)
    one, two, three = batch(rpc, 1, 2), batch(rpc, 3, 4), batch(rpc, 5, 6)
    assert [rpc.write(reply_text(each, "x" * 1800)) for each in (one[0], two[0])] == [None, None]
    answers = loaded(rpc.write(reply(two[1], 5)))
    assert [(each["id"], "error" in each) for each in answers] == [(3, True), (4, False)]
    assert rpc.write(reply_text(three[0], "x" * 300)) is None
    answers = loaded(rpc.write(reply_text(three[1], "x" * 2400)))
    assert [(each["id"], "error" in each) for each in answers] == [(5, False), (6, False)], "the last does not wait"
    assert [each["id"] for each in loaded(rpc.write(reply(one[1], 5)))] == [1, 2]
    assert rpc._held_back == 0


def test_a_peer_cannot_talk_the_bound_away_with_invalid_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their errors were added to what waits, and leave it with the rest of their batch."""
    monkeypatch.setattr(_jsonrpc, "MAX_HELD_BACK", 6000)
    rpc = JsonRpc(PEER, max_message=3000)
    waiting = []
    for n in range(5):
        first, last = batch(rpc, f"first-{n}", f"last-{n}")
        assert rpc.write(reply_text(first, "x" * 1500)) is None
        waiting.append(last)
        (only,) = read(rpc, 1, 2, 3, asked("only"), batch=True)
        assert len(loaded(rpc.write(reply(_message(only), 5)))) == 4
    results = [loaded(rpc.write(reply(each, 5)))[0] for each in waiting]
    assert ["result" in each for each in results] == [True, True, True, False, False]


def member(kind: str, id_: str) -> Any:
    return {"request": asked(id_), "invalid": 5, "note": note()}[kind]


members = st.lists(st.sampled_from(["request", "invalid", "note"]), min_size=1, max_size=6)


@given(st.lists(members, max_size=6), st.lists(st.integers(0, 900), min_size=36, max_size=36), st.randoms())
def test_each_request_of_every_batch_is_answered_once_in_a_frame_that_fits(
    batches: list[list[str]], sizes: list[int], chance: Any
) -> None:
    rpc = JsonRpc(PEER, max_message=1500)
    rpc._max_held_back = 2000
    frames: list[Frame | None] = []
    waiting: list[Message] = []
    for n, kinds in enumerate(batches):
        try:
            items = read(rpc, *(member(kind, f"{n}-{k}") for k, kind in enumerate(kinds)), batch=True)
        except BadFrame as error:
            frames.append(error.answer)
        else:
            waiting += [item for item in map(_message, items) if item.correlation_id]
        assert rpc._held_back <= 2000
    chance.shuffle(waiting)
    for message, size in zip(waiting, sizes, strict=False):
        frames.append(rpc.write(reply_text(message, "é" * size)))
        assert 0 <= rpc._held_back <= 2000
    said = [str(frame) for frame in frames if frame is not None]
    assert all(len(text.encode()) <= 1500 for text in said)
    arrays = [array for array in map(json.loads, said) if isinstance(array, list)]
    answered = [json.dumps(each["id"]) for array in arrays for each in array if each["id"] is not None]
    assert sorted(answered) == sorted(each.correlation_id for each in waiting)
    assert rpc._held_back == 0


def reply_text(request: Message, text: str) -> Message:
    return request.reply(Kind.REPLY, json.dumps(text, ensure_ascii=False).encode(), codec.JSON)
