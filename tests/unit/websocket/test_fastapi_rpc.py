"""fastapi_websocket_rpc's wire: requests, responses, pings, faults; no stranger's JSON breaks the reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi_websocket_rpc.schemas import RpcMessage, RpcResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from rpckit import codec
from rpckit.bodies import write_arguments
from rpckit.errors import Code, UsageError
from rpckit.fault import Fault, fault_message, read_fault
from rpckit.message import NATIVE, Kind, Message
from rpckit_websocket._dialect import (
    BadFrame,
    Control,
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
from rpckit_websocket._fastapi_rpc import FastApiRpc

PEER = "their session"
FAULT = Fault(Code.NOT_FOUND, "no ü", "Missing", {"n": 1}, True, "rpckit", "e-1")


@pytest.fixture
def rpc() -> FastApiRpc:
    return FastApiRpc(PEER)


def asked(method: Any = "fib", arguments: Any = None, call_id: Any = "c") -> dict[str, Any]:
    return {"request": {"method": method, "arguments": arguments, "call_id": call_id}, "response": None}


def answered(call_id: Any = "c", **more: Any) -> dict[str, Any]:
    return {"request": None, "response": {"call_id": call_id, **more}}


def read(rpc: FastApiRpc, value: Any) -> Sequence[Incoming]:
    return rpc.read(json.dumps(value))


def message(rpc: FastApiRpc, value: Any) -> Message:
    (item,) = read(rpc, value)
    assert isinstance(item, Message)
    return item


def loaded(frame: Frame | None) -> Any:
    assert frame is not None
    return json.loads(frame)


def call(*args: Any, **kwargs: Any) -> Message:
    body, content_type = write_arguments(NATIVE, "", args, kwargs)
    return Message(Kind.REQUEST, "", "concat", "m", "c-1", "inbox", content_type, body=body)


# --- requests ------------------------------------------------------------------------------------


def test_a_request_is_a_native_one_with_json_inside(rpc: FastApiRpc) -> None:
    assert message(rpc, asked("fib", {"n": 30})) == Message(
        Kind.REQUEST, "", "fib", "", "c", PEER, codec.JSON, body=b'{"args":[],"kwargs":{"n":30}}'
    )


@pytest.mark.parametrize("arguments", [None, {}])
def test_arguments_may_be_left_out(rpc: FastApiRpc, arguments: Any) -> None:
    assert json.loads(message(rpc, asked(arguments=arguments)).body) == {"args": [], "kwargs": {}}


@pytest.mark.parametrize("method, parts", [("fib", ("", "fib")), ("q.fib", ("q", "fib")), ("a.b.fib", ("a.b", "fib"))])
def test_the_last_dot_parts_address_and_method(rpc: FastApiRpc, method: str, parts: tuple[str, str]) -> None:
    request = message(rpc, asked(method))
    assert (request.address, request.method) == parts


@pytest.mark.parametrize("call_id", [None, ""])
def test_without_a_call_id_no_reply_is_wanted(rpc: FastApiRpc, call_id: Any) -> None:
    request = message(rpc, asked(call_id=call_id))
    assert (request.correlation_id, request.reply_to) == ("", "")


def test_a_frame_may_hold_a_request_and_a_response(rpc: FastApiRpc) -> None:
    items = read(rpc, {**asked(), "response": answered("x", result=1)["response"]})
    assert [item.kind for item in items if isinstance(item, Message)] == [Kind.REQUEST, Kind.REPLY]


def test_a_frame_with_neither_says_nothing(rpc: FastApiRpc) -> None:
    assert not read(rpc, {"request": None, "response": None})
    assert not read(rpc, {})


@pytest.mark.parametrize(
    "value",
    [
        5,
        None,
        [],
        [asked()],
        "text",
        {"request": 5},
        {"request": []},
        {"request": {}},
        asked(method=None),
        asked(method=5),
        asked(call_id=5),
        asked(call_id=[]),
        {"response": 5},
        {"response": {}},
        answered(None, result=1),
        answered(5, result=1),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_neither_is_refused(rpc: FastApiRpc, value: Any) -> None:
    with pytest.raises(BadFrame):
        read(rpc, value)


@pytest.mark.parametrize("frame", ["", "{", b"\xff", "[" * 100_000])
def test_what_is_no_json_is_refused(rpc: FastApiRpc, frame: Frame) -> None:
    with pytest.raises(BadFrame, match="not JSON") as caught:
        rpc.read(frame)
    assert caught.value.answer is None


@pytest.mark.parametrize("arguments", [[1], "text", 5])
def test_arguments_by_position_are_answered_with_an_error(rpc: FastApiRpc, arguments: Any) -> None:
    with pytest.raises(BadFrame) as caught:
        read(rpc, asked(arguments=arguments))
    response = loaded(caught.value.answer)["response"]
    assert (response["call_id"], response["error"]["code"]) == ("c", Code.INVALID_ARGUMENT)
    with pytest.raises(BadFrame) as caught:
        read(rpc, asked(arguments=arguments, call_id=None))
    assert caught.value.answer is None


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, kind",
    [
        ({"a": 1}, "dict"),
        ([1], "list"),
        ("text", "str"),
        (True, "bool"),
        (False, "bool"),
        (None, "NoneType"),
        (5, "int"),
        (-5, "int"),
        (1.5, "float"),
        (1e300, "float"),
    ],
)
def test_a_result_names_its_type_as_their_program_does(rpc: FastApiRpc, value: Any, kind: str) -> None:
    request = message(rpc, asked())
    frame = rpc.write(request.reply(Kind.REPLY, json.dumps(value).encode(), codec.JSON))
    response = {"result": value, "result_type": kind, "call_id": "c"}
    assert loaded(frame) == {"request": None, "response": response}
    theirs = RpcMessage.model_validate_json(frame or "").response
    assert isinstance(theirs, RpcResponse)
    assert (theirs.call_id, theirs.result_type) == ("c", kind)


@pytest.mark.parametrize("value", [5, None, "ü", "\ud800", [1, {"a": None}], float("nan")])
def test_a_response_is_a_reply(rpc: FastApiRpc, value: Any) -> None:
    reply = message(rpc, answered(result=value, result_type="whatever"))
    assert (reply.kind, reply.correlation_id) == (Kind.REPLY, "c")
    assert repr(codec.decode(reply.content_type, reply.body)) == repr(value)


def test_what_json_has_not_is_a_usage_error(rpc: FastApiRpc) -> None:
    request = message(rpc, asked())
    with pytest.raises(UsageError):
        rpc.write(request.reply(Kind.REPLY, b"\xff", codec.BYTES))


def test_a_request_that_ends_without_an_answer_is_answered_null(rpc: FastApiRpc) -> None:
    assert loaded(rpc.write_control(Settled("c")))["response"]["result"] is None


@pytest.mark.parametrize("content_type", [codec.JSON, codec.MSGPACK])
def test_a_fault_survives_both_ways(rpc: FastApiRpc, content_type: str) -> None:
    request = message(rpc, asked())
    request.content_type = content_type
    frame = rpc.write(fault_message(request, FAULT))
    assert loaded(frame)["response"]["result"] is None
    assert RpcMessage.model_validate_json(frame or "").response is not None
    (item,) = rpc.read(frame or "")
    assert isinstance(item, Message)
    assert (item.kind, item.correlation_id, read_fault(item)) == (Kind.FAULT, "c", FAULT)


def test_details_that_json_has_not_are_left_out(rpc: FastApiRpc) -> None:
    request = message(rpc, asked())
    request.content_type = codec.MSGPACK
    frame = rpc.write(fault_message(request, Fault("MY_OWN", "text", details={"raw": b"\xff"})))
    assert loaded(frame)["response"]["error"] == {"code": "MY_OWN", "message": "text"}


@pytest.mark.parametrize("error", [None, 5, "text", []])
def test_only_an_object_is_an_error(rpc: FastApiRpc, error: Any) -> None:
    assert message(rpc, answered(result=5, error=error)).kind is Kind.REPLY


def test_an_error_without_a_code_is_unknown(rpc: FastApiRpc) -> None:
    assert read_fault(message(rpc, answered(error={}))).code == Code.UNKNOWN


def test_a_request_nobody_serves_is_answered_so(rpc: FastApiRpc) -> None:
    error = loaded(rpc.write_control(Undelivered("c", "nobody")))["response"]["error"]
    assert error == {"code": Code.UNIMPLEMENTED, "message": "nobody"}


# --- calling the other side ----------------------------------------------------------------------


def test_a_call_goes_by_name_only(rpc: FastApiRpc) -> None:
    frame = rpc.write(call(a="ü"))
    assert loaded(frame) == asked("concat", {"a": "ü"}, "c-1")
    theirs = RpcMessage.model_validate_json(frame or "").request
    assert theirs is not None
    assert (theirs.method, theirs.arguments, theirs.call_id) == ("concat", {"a": "ü"}, "c-1")
    with pytest.raises(UsageError, match="by name only"):
        rpc.write(call("ü"))


def test_a_call_at_an_address_has_a_dot(rpc: FastApiRpc) -> None:
    addressed = call()
    addressed.address = "q"
    assert loaded(rpc.write(addressed))["request"]["method"] == "q.concat"


def test_what_it_has_not_is_not_said(rpc: FastApiRpc) -> None:
    assert rpc.write(Message(Kind.CANCEL, correlation_id="c")) is None
    assert rpc.write(Message(Kind.EVENT, "t")) is None
    assert rpc.event("t", Message(Kind.EVENT)) is None
    nothing: list[Control] = [Receipt("m"), Subscribe("t"), Unsubscribe("t")]
    assert [rpc.write_control(each) for each in nothing] == [None, None, None]


@pytest.mark.parametrize("kind", [Kind.ITEM, Kind.END, Kind.CREDIT])
def test_streams_cannot_be_said(rpc: FastApiRpc, kind: Kind) -> None:
    with pytest.raises(UsageError, match="fastapi_websocket_rpc has no"):
        rpc.write(Message(kind, correlation_id="1"))


# --- pings ---------------------------------------------------------------------------------------


def test_their_ping_is_answered_pong(rpc: FastApiRpc) -> None:
    assert read(rpc, asked("_ping_")) == [Ping("c")]
    assert loaded(rpc.write_control(Pong("c")))["response"] == {"result": "pong", "result_type": "str", "call_id": "c"}


def test_their_question_for_the_channel_is_answered_with_the_session(rpc: FastApiRpc) -> None:
    (ping,) = read(rpc, asked("_get_channel_id_"))
    assert isinstance(ping, Ping)
    assert loaded(rpc.write_control(Pong(ping.token)))["response"] == {
        "result": PEER,
        "result_type": "str",
        "call_id": "c",
    }


def test_our_ping_comes_back(rpc: FastApiRpc) -> None:
    request = loaded(rpc.write_control(Ping("7")))["request"]
    assert request["method"] == "_ping_"
    assert read(rpc, answered(request["call_id"], result="pong")) == [Pong("7")]


def test_only_the_side_that_dialled_greets() -> None:
    assert FastApiRpc(PEER).write_control(Hello("id")) is None
    dialled = FastApiRpc(PEER, dialled=True)
    request = loaded(dialled.write_control(Hello("id")))["request"]
    assert request["method"] == "_ping_"
    assert read(dialled, answered(request["call_id"], result="pong")) == [Hello("")]


def test_the_last_frame_tells_whether_frames_are_binary() -> None:
    rpc = FastApiRpc(PEER)
    assert isinstance(rpc.write(call()), str)
    rpc.read(json.dumps(asked()).encode())
    assert isinstance(rpc.write(call()), bytes)
    rpc.read(json.dumps(asked()))
    assert isinstance(rpc.write(call()), str)


def test_a_side_that_was_told_to_write_binary_frames_stays_with_them() -> None:
    rpc = FastApiRpc(PEER, binary=True)
    rpc.read(json.dumps(asked()))
    assert isinstance(rpc.write(call()), bytes)


# --- strangers -----------------------------------------------------------------------------------

text = st.text(max_size=8) | st.just("\ud800")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
call_ids = st.sampled_from(["c", "\ud800", "rpckit-ping-", "rpckit-ping-hello"]) | values
requests = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["fib", "q.fib", ".", "", "_ping_", "_get_channel_id_"]) | values,
        "arguments": st.dictionaries(text, values, max_size=2) | values,
        "call_id": call_ids,
    },
)
responses = st.fixed_dictionaries(
    {},
    optional={
        "call_id": call_ids,
        "result": values,
        "error": st.fixed_dictionaries({}, optional={"code": text, "message": values, "details": values}) | values,
    },
)


@settings(max_examples=2 * settings().max_examples)
@given(values | st.fixed_dictionaries({}, optional={"request": requests | values, "response": responses | values}))
def test_no_strangers_json_raises_anything_but_bad_frame(value: Any) -> None:
    survives(json.dumps(value))


@given(st.text(max_size=40) | st.binary(max_size=40))
def test_no_strangers_frame_raises_anything_but_bad_frame(frame: Frame) -> None:
    survives(frame)


@pytest.mark.parametrize(
    "form",
    [
        '{"request":{"method":"x","arguments":{"a":%s},"call_id":"1"}}',
        '{"response":{"call_id":"1","result":%s}}',
        '{"response":{"call_id":"1","error":{"a":%s}}}',
    ],
)
def test_however_deep_it_is_nested(form: str) -> None:
    for depth in (300, 900, 980, 1000, 100_000):
        survives(form % ("[" * depth + "]" * depth))


def survives(frame: Frame) -> None:
    """Read or refused; what is said to it is JSON that can be sent."""
    rpc = FastApiRpc(PEER)
    said: list[Frame | None] = []
    items: Sequence[Incoming] = ()
    try:
        items = rpc.read(frame)
    except BadFrame as error:
        said.append(error.answer)
    for item in items:
        if isinstance(item, Ping):
            said.append(rpc.write_control(Pong(item.token)))
        elif isinstance(item, Message) and item.kind is Kind.REQUEST and item.correlation_id:
            said.append(rpc.write(fault_message(item, Fault(Code.INTERNAL, "no"))))
    for each in said:
        if each is not None:
            (each.encode() if isinstance(each, str) else each).decode()
            json.loads(each, parse_constant=pytest.fail)
