"""JSON-RPC 2.0: requests, its own methods, calls to the other side; no stranger's JSON breaks the reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpckit import codec
from rpckit.call import cancel_topic
from rpckit.errors import Code, UsageError
from rpckit.fault import Fault, fault_message, read_fault
from rpckit.message import PLAIN, Kind, Message
from rpckit.topics import event_topic
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
    Unsubscribe,
)
from rpckit_websocket._jsonrpc import JsonRpc
from tests.unit.websocket.jsonrpc_words import (
    PEER,
    asked,
    call,
    loaded,
    note,
    read,
    refused,
    reply,
    request,
)


@pytest.fixture
def rpc() -> JsonRpc:
    return JsonRpc(PEER)


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


def test_our_pings_and_subscriptions_are_requests_whose_answers_are_pongs() -> None:
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
