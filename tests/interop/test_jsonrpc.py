"""JSON-RPC 2.0 as jsonrpc.org/specification has it: bare programs made with `websockets`, on either side of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from rpckit import (
    Client,
    ConnectionLost,
    Context,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NotSent,
    PermissionDenied,
    RemoteCancelled,
    RemoteError,
    RpcError,
    Server,
    Service,
    UsageError,
)
from rpckit.testing._ports import LOOPBACK, free_port

pytestmark = pytest.mark.timeout(30)

MILLISECONDS = 5.0  # seconds for what comes in milliseconds: generous, for loaded machines
SILENCE = 0.15  # seconds in which nothing comes
SOON = 5.0  # seconds in which what must happen has happened
NAP = 0.2
TINY = '{"jsonrpc":"2.0","method":"echo","params":["here"],"id":"tiny"}'
HERE = {"jsonrpc": "2.0", "id": "tiny", "result": "here"}

Json = Any


def request(method: str, params: Json = (), **members: Json) -> dict[str, Json]:
    """With id=…: a request; without: a notification."""
    return {"jsonrpc": "2.0", "method": method, "params": params, **members}


def result(identity: Json, value: Json) -> dict[str, Json]:
    return {"jsonrpc": "2.0", "id": identity, "result": value}


def code_of(answer: Json) -> tuple[Json, int]:
    """The id and the code of an error answer; it has no result."""
    assert answer.keys() == {"jsonrpc", "id", "error"}
    assert isinstance(answer["error"]["message"], str)
    return answer["id"], answer["error"]["code"]


# --- a bare client --------------------------------------------------------------------------------------


class Bare:
    """A JSON-RPC program with nothing but a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, *frames: Json) -> None:
        for frame in frames:
            await self.socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def hear(self) -> Json:
        return json.loads(await asyncio.wait_for(self.socket.recv(), MILLISECONDS))

    async def ask(self, frame: Json) -> Json:
        await self.say(frame)
        return await self.hear()

    async def hears_nothing(self) -> bool:
        """And is still connected, and served."""
        try:
            unexpected = await asyncio.wait_for(self.socket.recv(), SILENCE)
        except TimeoutError:
            return bool(await self.ask(TINY) == HERE)
        raise AssertionError(f"nothing should come, but this did: {unexpected!r}")


class Notes:
    """What handlers were told."""

    def __init__(self) -> None:
        self.heard: list[Json] = []


def a_service(notes: Notes) -> Service:
    service = Service("calc")

    @service.method
    async def add(a: int, b: int = 0) -> int:
        return a + b

    @service.method
    async def echo(value: Any = None) -> Any:
        return value

    @service.method
    async def note(value: Any) -> None:
        notes.heard.append(value)

    @service.method
    async def nap(seconds: float = NAP) -> float:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            notes.heard.append("cancelled")
            raise
        return seconds

    @service.method
    async def boom() -> None:
        raise ValueError("not for the caller's eyes")

    @service.method
    async def forbidden() -> None:
        raise PermissionDenied("not you", details={"who": "you"})

    @service.method
    async def unencodable() -> object:
        return object()

    @service.method
    async def ask_back(context: Context, n: int) -> int:
        return 1 + int(await context.other.double(n))

    @service.method
    async def tell_back(context: Context, n: int) -> str:
        try:
            return str(await context.other.double(n=n))
        except RpcError as error:
            return f"{type(error).__name__}: {error}"

    @service.method(no_reply=True)
    async def unanswered(value: Any) -> None:
        notes.heard.append(value)

    return service


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
async def server(notes: Notes) -> AsyncIterator[Server]:
    url = f"ws://{LOOPBACK}:{free_port()}/ws?peer_limit=8"
    async with Server(a_service(notes), url=url) as server:
        yield server


def address(server: Server) -> str:
    host = server.urls[0].hosts[0]
    return f"ws://{host.name}:{host.port}/ws"


@pytest.fixture
async def bare(server: Server) -> AsyncIterator[Bare]:
    async with connect(address(server), proxy=None) as socket:
        yield Bare(socket)


# --- requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["add", "calc.add"])
@pytest.mark.parametrize("params", [[1, 2], {"a": 1, "b": 2}, {"a": 3}, [3]])
async def test_params_are_positional_or_named(bare: Bare, method: str, params: Json) -> None:
    assert await bare.ask(request(method, params, id=1)) == result(1, 3)


async def test_params_may_be_left_out(bare: Bare) -> None:
    assert await bare.ask({"jsonrpc": "2.0", "method": "echo", "id": 1}) == result(1, None)


@pytest.mark.parametrize(
    "value", [None, True, 0, 1.5, 10**30, "", "grüße 世界 🐇", [], {}, [1, [2]], {"a": {"b": None}}]
)
async def test_values_come_back_as_they_were(bare: Bare, value: Json) -> None:
    assert await bare.ask(request("echo", [value], id=1)) == result(1, value)
    assert await bare.ask(request("echo", {"value": value}, id=2)) == result(2, value)


@pytest.mark.parametrize("identity", ["", "a", "1", "ü", "\ud800", 'quote"d', 0, 7, -1, 10**30, 1.5, -0.25, None])
async def test_an_id_of_any_kind_comes_back_as_it_was(bare: Bare, identity: Json) -> None:
    answer = await bare.ask(request("add", [1, 2], id=identity))
    assert answer == result(identity, 3)
    assert type(answer["id"]) is type(identity)


async def test_the_ids_1_and_its_string_are_two(bare: Bare) -> None:
    await bare.say(request("nap", [0.05], id=1), request("nap", [0.1], id="1"), request("nap", [0.15], id=1.5))
    assert [await bare.hear() for _ in range(3)] == [result(1, 0.05), result("1", 0.1), result(1.5, 0.15)]


async def test_every_request_with_an_id_of_null_is_answered(bare: Bare) -> None:
    await bare.say(*(request("nap", [seconds], id=None) for seconds in (0.05, 0.1)))
    assert [await bare.hear() for _ in range(2)] == [result(None, 0.05), result(None, 0.1)]


@pytest.mark.parametrize("identity", ["true", "[]", "{}", "NaN", "1e999", "-Infinity"])
async def test_what_is_no_id_is_an_invalid_request(bare: Bare, identity: str) -> None:
    answer = await bare.ask('{"jsonrpc":"2.0","method":"echo","id":%s}' % identity)  # noqa: UP031  # braces
    assert code_of(answer) == (None, -32600)


async def test_an_id_in_use_is_refused_and_the_first_request_is_answered(bare: Bare, notes: Notes) -> None:
    await bare.say(request("nap", id=5), request("note", ["second"], id=5))
    assert code_of(await bare.hear()) == (5, -32600)
    assert await bare.hear() == result(5, NAP)
    assert notes.heard == []
    assert await bare.ask(request("add", [1, 2], id=5)) == result(5, 3)


async def test_requests_run_at_once_and_are_answered_as_they_end(bare: Bare) -> None:
    naps = [NAP, 0.9 * NAP, 0.8 * NAP, 0.7 * NAP, 0.6 * NAP]
    async with asyncio.timeout(4 * NAP):
        await bare.say(*(request("nap", [seconds], id=seconds) for seconds in naps))
        assert [await bare.hear() for _ in naps] == [result(seconds, seconds) for seconds in reversed(naps)]


async def test_a_method_without_a_reply_is_answered_null(bare: Bare, notes: Notes) -> None:
    assert await bare.ask(request("unanswered", ["x"], id=1)) == result(1, None)
    assert notes.heard == ["x"]


# --- notifications ------------------------------------------------------------------------------------------


async def test_a_notification_runs_and_is_not_answered(bare: Bare, notes: Notes) -> None:
    await bare.say(request("note", ["a"]), request("note", {"value": "b"}), request("echo", ["c"]))
    assert await bare.hears_nothing()
    assert notes.heard == ["a", "b"]


@pytest.mark.parametrize(
    "method, params",
    [("no_such_method", []), ("add", ["x"]), ("boom", []), ("unencodable", []), ("rpc.emit", {}), ("rpc.ping", [])],
)
async def test_a_notification_that_fails_is_not_answered(bare: Bare, method: str, params: Json) -> None:
    await bare.say(request(method, params))
    assert await bare.hears_nothing()


# --- batches ------------------------------------------------------------------------------------------------


def by_id(answers: Json) -> dict[Json, Json]:
    assert isinstance(answers, list)
    return {answer["id"]: answer for answer in answers}


async def test_a_batch_is_answered_by_one_array_of_all_its_answers(bare: Bare, notes: Notes) -> None:
    batch = [
        request("add", [1, 2], id=1),
        request("note", ["told"]),
        request("nap", id="slow"),
        request("no_such_method", id=3),
        request("rpc.ping", id=4),
        request("add", {"a": 1, "b": 1}, id=None),
    ]
    answers = by_id(await bare.ask(batch))
    assert answers.keys() == {1, "slow", 3, 4, None}
    assert [answers[each]["result"] for each in (1, "slow", 4, None)] == [3, NAP, "pong", 2]
    assert code_of(answers[3]) == (3, -32601)
    assert notes.heard == ["told"]
    assert await bare.hears_nothing()


async def test_a_batch_of_one_is_answered_by_an_array(bare: Bare) -> None:
    assert await bare.ask([request("add", [1, 2], id=1)]) == [result(1, 3)]
    assert await bare.ask([request("rpc.ping", id=2)]) == [result(2, "pong")]


async def test_a_batch_of_notifications_is_not_answered(bare: Bare, notes: Notes) -> None:
    await bare.say([request("note", ["a"]), request("boom"), request("note", ["b"])])
    assert await bare.hears_nothing()
    assert notes.heard == ["a", "b"]


async def test_an_empty_batch_is_one_invalid_request(bare: Bare) -> None:
    assert code_of(await bare.ask([])) == (None, -32600)
    assert await bare.hears_nothing()


async def test_a_batch_of_rubbish_is_answered_for_each(bare: Bare) -> None:
    assert [code_of(each) for each in await bare.ask([1, 2, {"foo": "boo"}])] == [(None, -32600)] * 3


async def test_an_invalid_member_harms_no_other(bare: Bare, notes: Notes) -> None:
    answers = await bare.ask([1, request("add", [1, 2], id=1), request("note", ["told"])])
    assert sorted(map(json.dumps, (each.get("result") for each in answers))) == ["3", "null"]
    await bare.say([{"jsonrpc": "2.0", "id": 7}, request("note", ["told, too"])])
    assert [code_of(each) for each in await bare.hear()] == [(7, -32600)]
    assert await bare.hears_nothing()
    assert notes.heard == ["told", "told, too"]


async def test_two_batches_at_once_are_answered_apart(bare: Bare) -> None:
    slow, quick = ([request("nap", [seconds], id=f"{seconds}-{each}") for each in "ab"] for seconds in (NAP, 0.5 * NAP))
    await bare.say(slow, quick)
    answers = [by_id(await bare.hear()).keys() for _ in range(2)]
    assert answers == [{"0.1-a", "0.1-b"}, {"0.2-a", "0.2-b"}]


# --- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame, code",
    [
        pytest.param("not JSON", -32700, id="not JSON"),
        pytest.param('{"jsonrpc":"2.0","method":"foobar,"params":"bar","baz]', -32700, id="cut short"),
        pytest.param("", -32700, id="nothing"),
        pytest.param("[" * 100_000, -32700, id="too deep"),
        pytest.param(b"\xff\xfe", -32700, id="not text"),
        pytest.param("7", -32600, id="a number"),
        pytest.param("null", -32600, id="null"),
        pytest.param('"text"', -32600, id="a string"),
        pytest.param("{}", -32600, id="an empty object"),
        pytest.param('{"method":"echo"}', -32600, id="without a version"),
        pytest.param('{"jsonrpc":"1.0","method":"echo"}', -32600, id="another version"),
        pytest.param('{"jsonrpc":"2.0","method":1,"params":"bar"}', -32600, id="a method that is no name"),
        pytest.param('{"jsonrpc":"2.0","method":"echo","params":"bar"}', -32600, id="params that are no structure"),
        pytest.param('{"jsonrpc":"2.0","method":"echo","params":null}', -32600, id="params of null"),
    ],
)
async def test_a_bad_frame_is_told_and_the_connection_stays(bare: Bare, frame: str | bytes, code: int) -> None:
    assert await bare.ask(TINY) == HERE
    assert code_of(await bare.ask(frame)) == (None, code)
    assert await bare.ask(TINY) == HERE


async def test_a_bad_first_frame_is_told_as_well(bare: Bare) -> None:
    assert code_of(await bare.ask("not JSON")) == (None, -32700)
    assert await bare.ask(TINY) == HERE


async def test_an_invalid_request_is_answered_with_its_id_where_it_has_one(bare: Bare) -> None:
    assert code_of(await bare.ask('{"jsonrpc":"2.0","method":"echo","params":"bar","id":"mine"}')) == ("mine", -32600)
    assert code_of(await bare.ask('{"jsonrpc":"2.0","method":"echo","params":1,"id":true}')) == (None, -32600)


@pytest.mark.parametrize(
    "method, params, code, name",
    [
        pytest.param("no_such_method", [], -32601, "UNIMPLEMENTED", id="an unknown method"),
        pytest.param("nobody.add", [], -32601, None, id="an unknown service"),
        pytest.param("calc.no_such", [], -32601, "UNIMPLEMENTED", id="an unknown method of a service"),
        pytest.param("", [], -32601, "UNIMPLEMENTED", id="no name"),
        pytest.param("rpc.no_such", [], -32601, "UNIMPLEMENTED", id="a reserved name"),
        pytest.param("\ud800", [], -32601, "UNIMPLEMENTED", id="a name that cannot be printed"),
        pytest.param("add", ["x"], -32602, "INVALID_ARGUMENT", id="a wrong argument"),
        pytest.param("add", [], -32602, "INVALID_ARGUMENT", id="an argument missing"),
        pytest.param("add", [1, 2, 3], -32602, "INVALID_ARGUMENT", id="too many arguments"),
        pytest.param("add", {"a": 1, "c": 2}, -32602, "INVALID_ARGUMENT", id="an unknown argument"),
        pytest.param("rpc.subscribe", [], -32602, None, id="no topic"),
        pytest.param("boom", [], -32603, "INTERNAL", id="a raising handler"),
        pytest.param("forbidden", [], -32003, "PERMISSION_DENIED", id="an error on purpose"),
        pytest.param("unencodable", [], -32007, "DATA_LOSS", id="an unencodable result"),
        pytest.param("echo", ["\ud800"], -32007, "DATA_LOSS", id="a result that cannot be printed"),
    ],
)
async def test_a_failure_answers_its_caller_at_once_and_touches_nothing_else(
    bare: Bare, server: Server, method: str, params: Json, code: int, name: str | None
) -> None:
    await bare.say(request("nap", [0.5], id="slow"))
    answer = await bare.ask(request(method, params, id=1))
    assert code_of(answer) == (1, code)
    assert answer["error"].get("data", {}).get("code") == name
    assert "not for the caller's eyes" not in json.dumps(answer)
    assert await bare.hear() == result("slow", 0.5)
    assert len(server.peers) == 1


async def test_an_error_on_purpose_carries_its_details(bare: Bare) -> None:
    error = (await bare.ask(request("forbidden", id=1)))["error"]
    assert (error["message"], error["data"]["details"]) == ("not you", {"who": "you"})


# --- cancelling -----------------------------------------------------------------------------------------------


def cancel(identity: Json) -> dict[str, Json]:
    return request("$/cancelRequest", {"id": identity})


async def until_in_flight(server: Server, number: int) -> None:
    async with asyncio.timeout(SOON):
        while server.in_flight != number:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("identity", [1, "one", 1.5])
async def test_a_cancelled_request_stops_and_is_answered(
    bare: Bare, server: Server, notes: Notes, identity: Json
) -> None:
    await bare.say(request("nap", [60], id=identity))
    await until_in_flight(server, 1)
    assert code_of(await bare.ask(cancel(identity))) == (identity, -32800)
    assert notes.heard == ["cancelled"]
    assert server.in_flight == 0
    assert await bare.hears_nothing()


async def test_a_request_cancelled_before_its_turn_is_answered(bare: Bare, server: Server, notes: Notes) -> None:
    await bare.say(*(request("nap", id=each) for each in range(8)))
    await bare.say(request("note", ["never"], id="late"), cancel("late"))
    assert code_of(await bare.hear()) == ("late", -32800)
    assert sorted([(await bare.hear())["id"] for _ in range(8)]) == list(range(8))
    assert notes.heard == []
    assert await bare.hears_nothing()


async def test_a_request_cancelled_in_a_batch_is_answered_in_it(bare: Bare, server: Server) -> None:
    await bare.say([request("nap", [60], id=1), request("add", [1, 2], id=2)])
    await until_in_flight(server, 1)
    answers = by_id(await bare.ask(cancel(1)))
    assert code_of(answers[1]) == (1, -32800)
    assert answers[2] == result(2, 3)


@pytest.mark.parametrize("identity", ["stranger", None, True, [1]])
async def test_a_cancel_of_nothing_is_not_answered(bare: Bare, identity: Json) -> None:
    await bare.say(TINY)
    assert await bare.hear() == HERE
    await bare.say(cancel(identity), cancel("tiny"), request("$/cancelRequest", []))
    assert await bare.hears_nothing()


async def test_a_cancel_of_one_connection_stops_no_other(bare: Bare, server: Server) -> None:
    async with connect(address(server), proxy=None) as socket:
        other = Bare(socket)
        await bare.say(request("nap", id=1))
        await other.say(request("nap", id=1))
        await until_in_flight(server, 2)
        assert code_of(await other.ask(cancel(1))) == (1, -32800)
        assert await bare.hear() == result(1, NAP)


async def test_what_runs_for_a_client_that_leaves_is_stopped(server: Server, notes: Notes) -> None:
    async with connect(address(server), proxy=None) as socket:
        await Bare(socket).say(request("nap", [60], id=1))
        await until_in_flight(server, 1)
    await until_in_flight(server, 0)
    assert notes.heard == ["cancelled"]


# --- pings, frames, and both ways ---------------------------------------------------------------------------


async def test_a_ping_is_answered(bare: Bare) -> None:
    assert await bare.ask(request("rpc.ping", id=1)) == result(1, "pong")
    assert await bare.ask(request("rpc.ping", id=None)) == result(None, "pong")


async def test_what_there_is_can_be_asked_for(bare: Bare) -> None:
    document = (await bare.ask(request("rpc.discover", id=1)))["result"]
    assert document["openrpc"].startswith("1.")
    assert {"add", "calc.add"} & {method["name"] for method in document["methods"]}


async def test_binary_frames_are_answered_in_binary_and_text_in_text(bare: Bare) -> None:
    for frame, kind in ((TINY.encode(), bytes), (TINY, str), (b"not JSON", bytes)):
        await bare.say(frame)
        assert type(await asyncio.wait_for(bare.socket.recv(), MILLISECONDS)) is kind


async def test_the_server_calls_its_caller_while_it_handles_a_call(bare: Bare) -> None:
    call = await bare.ask(request("ask_back", [4], id=1))
    assert call == request("double", [4], id=call["id"])
    assert await bare.ask(result(call["id"], 8)) == result(1, 9)


@pytest.mark.parametrize(
    "answer, heard",
    [
        ({"result": 8}, "8"),
        ({"result": None}, "None"),
        ({"error": {"code": -32601, "message": "no double"}}, "MethodNotFound: UNIMPLEMENTED: no double"),
        ({"error": {"code": 42, "message": "own"}}, "RemoteError: UNKNOWN: own"),
        ({"error": "not an object"}, "RemoteError: UNKNOWN: not an object"),
    ],
)
async def test_what_its_caller_answers_is_what_the_handler_gets(bare: Bare, answer: Json, heard: str) -> None:
    call = await bare.ask(request("tell_back", [4], id=1))
    assert call["params"] == {"n": 4}
    assert await bare.ask({"jsonrpc": "2.0", "id": call["id"], **answer}) == result(1, heard)


async def test_an_answer_that_nobody_waits_for_harms_nothing(bare: Bare) -> None:
    await bare.say(TINY, result("stranger", 1), result(7, 1), {"jsonrpc": "2.0", "error": {"code": 1, "message": "x"}})
    assert await bare.hear() == HERE
    assert await bare.hears_nothing()


async def test_the_server_calls_a_client_it_knows(bare: Bare, server: Server) -> None:
    await bare.ask(TINY)
    [peer] = server.peers.values()
    assert peer.dialect == "jsonrpc"
    calling = asyncio.create_task(peer.other.double(4))
    call = await bare.hear()
    await bare.say(result(call["id"], 8))
    assert await calling == 8


async def test_a_call_that_the_server_gives_up_is_cancelled_at_its_client(bare: Bare, server: Server) -> None:
    await bare.ask(TINY)
    [peer] = server.peers.values()
    calling = asyncio.create_task(peer.other.double(4))
    call = await bare.hear()
    calling.cancel()
    assert await bare.hear() == cancel(call["id"])
    await asyncio.gather(calling, return_exceptions=True)


async def test_programs_of_every_dialect_are_served_at_one_address_at_once(bare: Bare, server: Server) -> None:
    ask = {"request": {"method": "nap", "arguments": {}, "call_id": "c"}, "response": None}
    async with (
        connect(address(server), proxy=None) as socket,
        Client(address(server)) as native,
        Client(f"{address(server)}?dialect=jsonrpc") as ours,
    ):
        other = Bare(socket)
        answers = await asyncio.gather(
            bare.ask(request("nap", id=1)), other.ask(ask), native.other.nap(), ours.other.nap()
        )
        named = {peer.dialect for peer in server.peers.values()}
    assert answers[0] == result(1, NAP)
    assert answers[1]["response"] == {"result": NAP, "result_type": "float", "call_id": "c"}
    assert [*answers[2:]] == [NAP, NAP]
    assert named == {"jsonrpc", "fastapi_websocket_rpc", "native"}


# --- our client, a bare server ------------------------------------------------------------------------------


Answer = Callable[["BareServer", dict[str, Json]], Awaitable[None]]


class BareServer:
    """One connection at a time; `answer` says what becomes of each frame."""

    def __init__(self, answer: Answer) -> None:
        self.frames: list[str | bytes] = []
        self.heard: list[Json] = []
        self.connections = 0
        self.socket: ServerConnection | None = None
        self._answer = answer

    async def keep(self, socket: ServerConnection) -> None:
        self.connections += 1
        self.socket = socket
        async for frame in socket:
            self.frames.append(frame)
            self.heard.append(json.loads(frame))
            await self._answer(self, self.heard[-1])

    async def say(self, frame: Json) -> None:
        assert self.socket is not None
        await self.socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def hears(self, found: Callable[[Json], bool]) -> Json:
        async with asyncio.timeout(SOON):
            while True:
                for each in self.heard:
                    if found(each):
                        return each
                await asyncio.sleep(0.01)


@asynccontextmanager
async def bare_server(answer: Answer) -> AsyncIterator[tuple[BareServer, str]]:
    server, port = BareServer(answer), free_port()
    async with serve(server.keep, LOOPBACK, port):
        yield server, f"ws://{LOOPBACK}:{port}/?dialect=jsonrpc"


async def adds(server: BareServer, call: Json) -> None:
    """`add`, and silence for everything else."""
    if isinstance(call, dict) and call.get("method") == "add":
        params = call["params"]
        values = params if isinstance(params, list) else params.values()
        await server.say(result(call["id"], sum(values)))


async def test_our_client_calls_by_position_or_by_name() -> None:
    async with bare_server(adds) as (server, url), Client(url) as client:
        assert await client.other.add(1, 2) == 3
        assert await client.other.add(a=1, b=2) == 3
        assert await client.call("add", 3, 4) == 7
        assert [each["params"] for each in server.heard] == [[1, 2], {"a": 1, "b": 2}, [3, 4]]
        assert all(each.keys() == {"jsonrpc", "method", "params", "id"} for each in server.heard)
        assert len({each["id"] for each in server.heard}) == 3


async def test_our_client_names_the_service_before_the_method() -> None:
    async def answers(server: BareServer, call: dict[str, Json]) -> None:
        await server.say(result(call["id"], call["method"]))

    async with bare_server(answers) as (_, url), Client(url) as client:
        assert await client.call("calc.add", 1) == "calc.add"
        assert await client.at("calc").add(1) == "calc.add"


async def test_our_client_refuses_a_mix_of_both_before_it_is_sent() -> None:
    async with bare_server(adds) as (server, url), Client(url) as client:
        with pytest.raises(UsageError, match="by position or by name"):
            await client.other.add(1, b=2)
        assert await client.other.add(1, 2) == 3
        assert len(server.heard) == 1


async def test_our_notification_has_no_id() -> None:
    async with bare_server(adds) as (server, url), Client(url) as client:
        await client.notify("log", "text")
        heard = await server.hears(lambda each: each["method"] == "log")
        assert heard == request("log", ["text"])


async def test_answers_may_come_in_any_order_in_a_batch_and_between_rubbish() -> None:
    waiting: list[Json] = []

    async def answers(server: BareServer, call: dict[str, Json]) -> None:
        waiting.append(call)
        if len(waiting) == 3:
            for rubbish in ("not JSON", 7, {}, result("stranger", 1), result(None, 1)):
                await server.say(rubbish if isinstance(rubbish, str) else json.dumps(rubbish))
            last, *rest = (result(each["id"], each["params"][0]) for each in reversed(waiting))
            await server.say(last)
            await server.say(rest)

    async with bare_server(answers) as (server, url), Client(url, timeout=SOON) as client:
        assert await asyncio.gather(*(client.other.echo(n) for n in range(3))) == [0, 1, 2]
        assert server.connections == 1


@pytest.mark.parametrize(
    "error, raised",
    [
        ({"code": -32601, "message": "no"}, MethodNotFound),
        ({"code": -32602, "message": "no", "data": ["why"]}, InvalidArgument),
        ({"code": -32603, "message": "no"}, InternalError),
        ({"code": -32800, "message": "no"}, RemoteCancelled),
        ({"code": -32003, "message": "no"}, PermissionDenied),
        ({"code": -32099, "message": "no"}, RemoteError),
        ({"code": 7, "message": "no", "data": {"code": 7}}, RemoteError),
        ({"code": "E7", "message": "no"}, RemoteError),
        ({}, RemoteError),
        ("no", RemoteError),
        (["no"], RemoteError),
    ],
)
async def test_an_error_of_a_bare_server_is_the_one_it_means(error: Json, raised: type[RemoteError]) -> None:
    async def fails(server: BareServer, call: dict[str, Json]) -> None:
        await server.say({"jsonrpc": "2.0", "id": call["id"], "error": error})

    async with bare_server(fails) as (_, url), Client(url) as client:
        with pytest.raises(RemoteError) as caught:
            await asyncio.wait_for(client.other.anything(), MILLISECONDS)
        assert type(caught.value) is raised
        if isinstance(error, dict) and "code" in error:
            assert caught.value.details == {"jsonrpc_code": error["code"], "data": error.get("data")}


async def test_a_call_given_up_is_cancelled_at_the_server() -> None:
    async with bare_server(adds) as (server, url), Client(url) as client:
        hanging = asyncio.create_task(client.other.hang())
        call = await server.hears(lambda each: each["method"] == "hang")
        hanging.cancel()
        assert await server.hears(lambda each: each["method"] == "$/cancelRequest") == cancel(call["id"])
        await asyncio.gather(hanging, return_exceptions=True)
        assert client.pending == 0


def exposed(notes: Notes) -> Service:
    service = Service("mine")

    @service.method
    async def double(n: int) -> int:
        return 2 * n

    @service.method
    async def note(value: Any) -> None:
        notes.heard.append(value)

    @service.method
    async def ask_back(context: Context, n: int) -> int:
        return 1 + int(await context.other.add(n, n))

    return service


async def test_a_bare_server_calls_what_our_client_exposes(notes: Notes) -> None:
    async with bare_server(adds) as (server, url), Client(url, expose=exposed(notes)):
        await server.say(
            [request("double", [4], id=1), request("note", ["told"]), request("mine.double", {"n": 5}, id=2)]
        )
        answers = by_id(await server.hears(lambda each: isinstance(each, list)))
        assert answers == {1: result(1, 8), 2: result(2, 10)}
        assert notes.heard == ["told"]
        await server.say(request("no_such_method", id=3))
        assert code_of(await server.hears(lambda each: isinstance(each, dict) and each.get("id") == 3)) == (3, -32601)
        await server.say("not JSON")
        assert code_of(await server.hears(lambda each: isinstance(each, dict) and each.get("id") is None)) == (
            None,
            -32700,
        )
        await server.say(request("ask_back", [4], id=4))
        assert await server.hears(lambda each: isinstance(each, dict) and each.get("id") == 4) == result(4, 9)


async def test_binary_frames_only_for_a_server_that_takes_no_others(notes: Notes) -> None:
    async with (
        bare_server(adds) as (server, url),
        Client(f"{url}&binary=true", expose=exposed(notes)) as client,
    ):
        assert await client.other.add(1, 2) == 3
        await server.say(request("double", [4], id=1))  # in text
        await server.hears(lambda each: each == result(1, 8))
        assert await client.other.add(1, 2) == 3
        assert {type(frame) for frame in server.frames} == {bytes}


async def test_our_client_reconnects_after_a_bare_server_dropped_it() -> None:
    async def drops(server: BareServer, call: dict[str, Json]) -> None:
        if call["method"] == "drop":
            assert server.socket is not None
            server.socket.transport.abort()
        await adds(server, call)

    async with bare_server(drops) as (server, url), Client(url, timeout=SOON) as client:
        with pytest.raises(ConnectionLost):
            await client.other.drop()
        assert await client.other.add(1, 2) == 3
        assert server.connections == 2


async def test_no_server_is_told_when_connecting() -> None:
    with pytest.raises(NotSent):
        async with Client(f"ws://{LOOPBACK}:{free_port()}/?dialect=jsonrpc"):
            raise AssertionError("there is none")


async def test_the_native_dialect_names_the_ones_that_a_bare_server_may_speak() -> None:
    async with bare_server(adds) as (_, url):
        with pytest.raises(UsageError, match="dialect=jsonrpc"):
            await Client(url.partition("?")[0]).connect()
