"""fastapi_websocket_rpc, unmodified: its clients call our servers, our clients its endpoints, and either calls back.

What its users complain of is compared with what happens here. A site is a real uvicorn in the test's own loop.
Annotations are evaluated in this module: it makes the type of a response of them, and reads no strings.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
import uvicorn
from fastapi import Depends, FastAPI, Header, WebSocket, WebSocketException
from fastapi_websocket_rpc import RpcUtilityMethods as TheirUtilityMethods
from fastapi_websocket_rpc import WebSocketRpcClient, WebsocketRPCEndpoint
from fastapi_websocket_rpc.rpc_channel import RpcChannelClosedException
from fastapi_websocket_rpc.schemas import WebSocketFrameType
from fastapi_websocket_rpc.simplewebsocket import JsonSerializingWebSocket
from pydantic import BaseModel
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from rpckit import (
    Client,
    ConnectionLost,
    Context,
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NotSent,
    Server,
    Service,
    UnencodableResult,
    UsageError,
)
from rpckit.peers import Peers, RemotePeer
from rpckit.testing._ports import LOOPBACK, free_port
from rpckit.transport import State
from rpckit_websocket import RpcUtilityMethods, WebSocketEndpoint

pytestmark = pytest.mark.timeout(30)

DIALECT = "dialect=fastapi_websocket_rpc"
MILLISECONDS = 5.0  # seconds for what comes in milliseconds: generous, for loaded machines
SOON = 5.0  # seconds in which what must happen has happened
NAP = 0.2
HEX_ID = re.compile(r"[0-9a-f]{32}")
GOOD = {"x-token": "good"}


class Person(BaseModel):
    name: str
    age: int = 0


# --- both servers, and what they serve -------------------------------------------------------------


def our_service(name: str = "ours") -> Service:
    """What our server serves, and what our client exposes."""
    service = Service(name)

    @service.method
    async def double(n: int) -> int:
        return 2 * n

    @service.method
    async def nap(seconds: float = NAP) -> float:
        await asyncio.sleep(seconds)
        return seconds

    @service.method
    async def older(person: Person) -> Person:
        return Person(name=person.name, age=person.age + 1)

    @service.method
    async def ask_back(context: Context, n: int) -> int:
        return 1 + int(await context.other.double(n=n))

    @service.method
    async def boom() -> None:
        raise ValueError("not for the caller's eyes")

    @service.method
    async def unencodable() -> object:
        return object()

    return service


class Theirs(TheirUtilityMethods):  # type: ignore[misc]  # untyped
    """What its endpoint serves, and what its client exposes."""

    async def double(self, n: int) -> int:
        return 2 * n

    async def nap(self, seconds: float = NAP) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def older(self, name: str, age: int) -> Person:
        return Person(name=name, age=age + 1)

    async def boom(self) -> str:
        raise ValueError("boom")

    async def unencodable(self) -> Any:
        return object()


class BinarySocket(JsonSerializingWebSocket):  # type: ignore[misc]  # untyped
    """As its tests make one: JSON in binary frames, and no others."""

    def _serialize(self, msg: Any) -> bytes:
        text: str = super()._serialize(msg)
        return text.encode()

    def _deserialize(self, buffer: bytes) -> Any:
        return super()._deserialize(buffer.decode())


class Ours(NamedTuple):
    """One of our servers, of either kind."""

    url: str
    at: WebSocketEndpoint | Server

    @property
    def peers(self) -> Peers:
        return self.at.peers

    def peer(self) -> RemotePeer:
        [peer] = self.peers.values()
        return peer


ServeOurs = Callable[..., AbstractAsyncContextManager[Ours]]


@asynccontextmanager
async def site(app: FastAPI) -> AsyncIterator[str]:
    """The application behind uvicorn; its address."""
    port = free_port()
    config = uvicorn.Config(app, LOOPBACK, port, log_config=None, ws="websockets-sansio", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            assert not serving.done(), "uvicorn did not start"
            await asyncio.sleep(0.01)
        yield f"ws://{LOOPBACK}:{port}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def on_fastapi(*services: Service, dependencies: Any = (), **settings: Any) -> AsyncIterator[Ours]:
    app = FastAPI()
    endpoint = WebSocketEndpoint(*services or (our_service(), RpcUtilityMethods()), **settings)
    endpoint.register(app, "/ws", dependencies=dependencies)
    async with site(app) as address:
        yield Ours(f"{address}/ws", endpoint)


@asynccontextmanager
async def listening(*services: Service, **settings: Any) -> AsyncIterator[Ours]:
    url = f"ws://{LOOPBACK}:{free_port()}/ws"
    async with Server(*services or (our_service(), RpcUtilityMethods()), url=url, **settings) as server:
        yield Ours(url, server)


@pytest.fixture(params=[on_fastapi, listening], ids=["fastapi", "listening"])
def serve_ours(request: pytest.FixtureRequest) -> ServeOurs:
    """serve_ours(**settings): an endpoint on FastAPI, and a server of its own."""
    serve: ServeOurs = request.param
    return serve


@asynccontextmanager
async def serve_theirs(check: Any = None, **settings: Any) -> AsyncIterator[str]:
    """Its endpoint, at the address yielded. check: a dependency of the route."""
    app = FastAPI()
    endpoint = WebsocketRPCEndpoint(Theirs(), **settings)

    @app.websocket("/ws", dependencies=[Depends(check)] if check is not None else [])
    async def route(websocket: WebSocket) -> None:
        await endpoint.main_loop(websocket)

    async with site(app) as address:
        yield f"{address}/ws?{DIALECT}"


def their_client(ours: Ours, **options: Any) -> Any:
    return WebSocketRpcClient(ours.url, Theirs(), proxy=None, **options)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not holds():
            await asyncio.sleep(0.01)


async def answer_of(call: Awaitable[Any]) -> Any:
    """What their client gets, in milliseconds."""
    return await asyncio.wait_for(call, MILLISECONDS)


# --- its client, our server ------------------------------------------------------------------------


async def test_their_client_calls_our_methods(serve_ours: ServeOurs) -> None:
    async with serve_ours() as ours, their_client(ours) as client:
        echo = await answer_of(client.other.echo(text="grüße, 世界"))
        assert (echo.result, echo.result_type) == ("grüße, 世界", "str")
        double = await answer_of(client.other.double(n=4))
        assert (double.result, double.result_type) == (8, "int")
        process = await answer_of(client.other.get_process_details())
        assert {"pid", "cmd", "workingdir"} == process.result.keys()


async def test_their_client_calls_by_service_and_method(serve_ours: ServeOurs) -> None:
    async with serve_ours() as ours, their_client(ours) as client:
        assert (await answer_of(client.call("ours.double", {"n": 4}))).result == 8


async def test_their_client_is_answered_its_pings(serve_ours: ServeOurs) -> None:
    async with serve_ours() as ours, their_client(ours) as client:
        assert (await answer_of(client.ping())).result == "pong"


async def test_their_client_gets_our_channel_id(serve_ours: ServeOurs) -> None:
    async with serve_ours() as ours, their_client(ours) as client:
        channel = await answer_of(client.other._get_channel_id_())
        assert HEX_ID.fullmatch(channel.result)
        assert list(ours.peers) == [channel.result]


async def test_their_keep_alive_is_answered_at_every_interval(serve_ours: ServeOurs) -> None:
    answers = []

    class Noting(WebSocketRpcClient):  # type: ignore[misc]  # untyped
        async def ping(self) -> Any:
            answers.append(await super().ping())
            return answers[-1]

    async with serve_ours() as ours, Noting(ours.url, Theirs(), keep_alive=0.05, proxy=None) as client:
        await eventually(lambda: len(answers) >= 6)
        assert {answer.result for answer in answers} == {"pong"}
        assert not client.channel.isClosed()


async def test_their_client_gets_structured_results(serve_ours: ServeOurs) -> None:
    async with serve_ours() as ours, their_client(ours) as client:
        answer = await answer_of(client.other.older(person={"name": "Ada", "age": 36}))
        assert (Person.model_validate(answer.result), answer.result_type) == (Person(name="Ada", age=37), "dict")


async def test_our_server_gets_structured_results_of_their_client(serve_ours: ServeOurs) -> None:
    async with serve_ours() as ours, their_client(ours):
        assert await ours.peer().other.older(name="Ada", age=36) == {"name": "Ada", "age": 37}


async def test_our_server_calls_their_client_back_later(serve_ours: ServeOurs) -> None:
    async with serve_ours() as ours, their_client(ours) as client:
        call_id = (await answer_of(client.other.call_me_back(method_name="double", args={"n": 4}))).result
        response = (await answer_of(client.other.get_response(call_id=call_id))).result
        assert response == {"result": 8, "result_type": "int", "call_id": call_id}


async def test_on_connect_calls_the_peer_on_either_side(serve_ours: ServeOurs) -> None:
    heard = []

    async def ours_connects(peer: RemotePeer) -> None:
        heard.append(("their double", peer.dialect, await peer.other.double(n=21)))

    async def theirs_connects(channel: Any) -> None:
        heard.append(("our double", "", (await channel.other.double(n=4)).result))

    async with (
        serve_ours(on_connect=ours_connects) as ours,
        their_client(ours, on_connect=[theirs_connects]),
    ):
        await eventually(lambda: len(heard) == 2)
    assert sorted(heard) == [("our double", "", 8), ("their double", "fastapi_websocket_rpc", 42)]


async def test_on_disconnect_runs_when_their_client_leaves(serve_ours: ServeOurs) -> None:
    gone: list[str] = []

    async def leaves(peer: RemotePeer) -> None:
        gone.append(peer.id)

    async with serve_ours(on_disconnect=leaves) as ours:
        async with their_client(ours):
            here = list(ours.peers)
        await eventually(lambda: gone == here)
        assert not ours.peers


async def test_their_client_in_binary_frames_is_answered_and_called_in_them(serve_ours: ServeOurs) -> None:
    heard: list[int] = []

    async def connects(peer: RemotePeer) -> None:
        heard.append(await peer.other.double(n=21))

    async with (
        serve_ours(on_connect=connects) as ours,
        their_client(ours, serializing_socket_cls=BinarySocket) as client,
    ):
        assert (await answer_of(client.other.ask_back(n=4))).result == 9
        await eventually(lambda: heard == [42])


async def test_binary_frames_are_answered_in_binary(serve_ours: ServeOurs) -> None:
    request = {"request": {"method": "double", "arguments": {"n": 4}, "call_id": "c"}, "response": None}
    async with serve_ours() as ours, connect(ours.url, proxy=None) as socket:
        await socket.send(json.dumps(request).encode())
        answer = await asyncio.wait_for(socket.recv(), MILLISECONDS)
        assert isinstance(answer, bytes)
        assert json.loads(answer)["response"]["result"] == 8


async def test_a_slow_handler_of_their_client_does_not_cost_it_the_connection(serve_ours: ServeOurs) -> None:
    """It answers no `_ping_` while a handler runs, for many of our heartbeats here."""
    async with serve_ours(transport_options={"heartbeat": 0.1}) as ours, their_client(ours):
        peer = ours.peer()
        assert await peer.other.using(timeout=SOON).nap(seconds=1.0) == 1.0
        assert ours.peer() is peer


# --- its client, our server: who may connect ---------------------------------------------------------


class Door:
    """A dependency that lets in who has a good token; it counts who came."""

    def __init__(self) -> None:
        self.tokens = {"good"}
        self.asked = 0

    async def check(self, x_token: str | None = Header(None)) -> None:
        self.asked += 1
        if x_token not in self.tokens:
            raise WebSocketException(1008)


async def test_their_client_with_a_token_is_let_in() -> None:
    async with (
        on_fastapi(dependencies=[Depends(Door().check)]) as ours,
        their_client(ours, additional_headers=GOOD) as client,
    ):
        assert (await answer_of(client.other.double(n=4))).result == 8
        assert ours.peer().headers["x-token"] == "good"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it names an exception that `websockets` deprecated
async def test_their_client_without_a_token_sees_the_refusal_and_gives_up() -> None:
    door = Door()
    async with on_fastapi(dependencies=[Depends(door.check)]) as ours:
        with pytest.raises(InvalidStatus) as refused:
            await asyncio.wait_for(their_client(ours).__aenter__(), SOON)
        assert refused.value.response.status_code == 403
        assert (door.asked, len(ours.peers)) == (1, 0)


async def test_our_hook_lets_their_client_in_by_its_headers_or_closes(serve_ours: ServeOurs) -> None:
    closed = asyncio.Event()

    async def check(peer: RemotePeer) -> None:
        if peer.headers.get("x-token") != "good":
            peer.close("no token")

    async def on_disconnect(_: Any) -> None:
        closed.set()

    async with serve_ours(on_connect=check) as ours:
        async with their_client(ours, additional_headers=GOOD) as client:
            assert (await answer_of(client.other.double(n=4))).result == 8
        async with their_client(ours, on_disconnect=[on_disconnect]):
            await asyncio.wait_for(closed.wait(), SOON)
            await eventually(lambda: not ours.peers)


# --- its client, our server: what its users complain of ------------------------------------------------


FAILURES = [
    pytest.param("boom", {}, InternalError, id="a raising handler"),
    pytest.param("no_such_method", {}, MethodNotFound, id="an unknown method"),
    pytest.param("_private", {}, MethodNotFound, id="a private name"),
    pytest.param("double", {"n": "four"}, InvalidArgument, id="a wrong argument"),
    pytest.param("double", {"m": 4}, InvalidArgument, id="an unknown argument"),
    pytest.param("double", {}, InvalidArgument, id="no argument"),
    pytest.param("unencodable", {}, UnencodableResult, id="an unencodable result"),
]


@pytest.mark.parametrize("method, arguments, error", FAILURES)
async def test_a_failure_answers_its_caller_at_once_and_touches_nothing_else(
    serve_ours: ServeOurs, method: str, arguments: dict[str, Any], error: type[Exception]
) -> None:
    async with serve_ours() as ours, their_client(ours) as client:
        peer = ours.peer()
        napping = asyncio.create_task(client.other.nap(seconds=0.6))
        await eventually(lambda: ours.at.in_flight == 1)
        answer = await answer_of(client.call(method, arguments))
        assert (answer.result, answer.result_type) == (None, "error")
        assert not napping.done()
        assert (await napping).result == 0.6
        assert (await answer_of(client.other.double(n=4))).result == 8
        assert ours.peer() is peer


@pytest.mark.parametrize("method, arguments, error", FAILURES)
async def test_a_failure_says_what_it_is_to_who_reads_the_error(
    serve_ours: ServeOurs, method: str, arguments: dict[str, Any], error: type[Exception]
) -> None:
    """Its clients do not read the key `error`; ours, in the same dialect, do."""
    async with serve_ours() as ours, Client(f"{ours.url}?{DIALECT}") as client:
        with pytest.raises(error) as raised:
            await answer_of(getattr(client.other, method)(**arguments))
        assert "not for the caller's eyes" not in str(raised.value)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param({"method": "double", "arguments": [4], "call_id": "c"}, id="arguments by position"),
        pytest.param({"method": "double", "arguments": {"n": "\ud800"}, "call_id": "c"}, id="a lone surrogate"),
        pytest.param({"method": "\ud800", "arguments": {}, "call_id": "c"}, id="a name that cannot be printed"),
        pytest.param({"method": "_ping_", "call_id": "\ud800"}, id="a call_id that cannot be printed"),
    ],
)
async def test_an_odd_request_is_answered_and_touches_nothing_else(
    serve_ours: ServeOurs, frame: dict[str, Any]
) -> None:
    good = {"method": "double", "arguments": {"n": 4}, "call_id": "good"}
    async with serve_ours() as ours, connect(ours.url, proxy=None) as socket:
        for request in (frame, good):
            await socket.send(json.dumps({"request": request, "response": None}))
        answers = [json.loads(await asyncio.wait_for(socket.recv(), MILLISECONDS))["response"] for _ in range(2)]
    by_id = {answer["call_id"]: answer["result"] for answer in answers}
    assert by_id["good"] == 8
    assert by_id[frame["call_id"]] == ("pong" if frame["method"] == "_ping_" else None)


async def test_a_frame_that_cannot_be_read_does_not_cost_the_connection(serve_ours: ServeOurs) -> None:
    frames = ["not JSON", "7", "{}", '{"request": 7}', '{"response": {"call_id": "stranger", "result": 1}}']
    good = [json.dumps({"request": {"method": "double", "arguments": {"n": 4}, "call_id": each}}) for each in "ab"]
    async with serve_ours() as ours, connect(ours.url, proxy=None) as socket:
        for frame in (good[0], *frames, good[1]):
            await socket.send(frame)
        answers = [json.loads(await asyncio.wait_for(socket.recv(), MILLISECONDS)) for _ in range(2)]
    assert [answer["response"]["result"] for answer in answers] == [8, 8]


async def test_our_handlers_run_at_once_for_one_client(serve_ours: ServeOurs) -> None:
    async with serve_ours() as ours, their_client(ours) as client:
        naps = asyncio.gather(*(client.other.nap(seconds=NAP) for _ in range(5)))
        answers = await asyncio.wait_for(naps, 4 * NAP)
        assert [answer.result for answer in answers] == [NAP] * 5


async def test_our_handler_may_call_its_caller(serve_ours: ServeOurs) -> None:
    async with serve_ours() as ours, their_client(ours) as client:
        assert (await answer_of(client.other.ask_back(n=4))).result == 9
        answers = await answer_of(asyncio.gather(*(client.other.ask_back(n=n) for n in range(20))))
        assert [answer.result for answer in answers] == [1 + 2 * n for n in range(20)]


async def test_a_call_to_their_client_that_fails_ends_with_its_connection(serve_ours: ServeOurs) -> None:
    """Its reader ends with the exception of a handler, so nothing tells us before the client closes."""
    async with serve_ours() as ours:
        async with their_client(ours):
            calling = asyncio.create_task(ours.peer().other.boom())
            await asyncio.sleep(NAP)
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(calling, SOON)


async def test_arguments_by_position_are_refused_before_they_are_sent(serve_ours: ServeOurs) -> None:
    async with serve_ours() as ours, their_client(ours) as client:
        with pytest.raises(UsageError, match="by name"):
            await ours.peer().other.double(4)
        assert (await answer_of(client.other.double(n=4))).result == 8


async def test_our_server_that_stops_ends_the_calls_of_their_client(serve_ours: ServeOurs) -> None:
    async with serve_ours(grace=0.0) as ours:
        client = await their_client(ours).__aenter__()
        hanging = asyncio.create_task(client.other.nap(seconds=60))
        await eventually(lambda: ours.at.in_flight == 1)
    try:
        ended: Any = (await asyncio.gather(asyncio.wait_for(hanging, SOON), return_exceptions=True))[0]
        assert isinstance(ended, RpcChannelClosedException) or ended.result_type == "error"
    finally:
        await client.close()


# --- our client, its endpoint ---------------------------------------------------------------------------


our_client = partial(Client, timeout=SOON)


async def test_our_client_calls_their_methods() -> None:
    async with serve_theirs() as url, our_client(url) as client:
        assert await client.other.echo(text="grüße, 世界") == "grüße, 世界"
        assert await client.other.double(n=4) == 8
        assert await client.call("double", n=4) == 8
        assert (await client.other.get_process_details()).keys() == {"pid", "cmd", "workingdir"}


async def test_our_client_pings_their_endpoint() -> None:
    async with serve_theirs() as url, our_client(url) as client:
        assert await client.other._ping_() == "pong"


async def test_our_client_gets_their_channel_id() -> None:
    async with serve_theirs() as url, our_client(url) as client:
        first, second = [await client.other._get_channel_id_() for _ in range(2)]
        assert HEX_ID.fullmatch(first)
        assert first == second


async def test_their_endpoint_gets_the_channel_id_of_our_client() -> None:
    ids: list[str] = []
    tasks = set()

    async def ask(channel: Any) -> None:
        tasks.add(asyncio.create_task(note(channel)))

    async def note(channel: Any) -> None:
        ids.append(await channel.get_other_channel_id())

    async with (
        serve_theirs(rpc_channel_get_remote_id=True, on_connect=[ask]) as url,
        our_client(url) as client,
    ):
        await eventually(lambda: len(ids) == 1)
        assert HEX_ID.fullmatch(ids[0])
        assert ids == [client.transport.inbox]


async def test_our_heartbeat_keeps_a_connection_to_their_endpoint() -> None:
    peers: list[RemotePeer] = []

    async def note(peer: RemotePeer) -> None:
        peers.append(peer)

    async with serve_theirs() as url, our_client(f"{url}&heartbeat=0.1", on_connect=note) as client:
        await eventually(lambda: bool(peers) and peers[0].rtt is not None)
        await asyncio.sleep(1.0)
        assert await client.other.double(n=4) == 8
        assert len(peers) == 1


async def test_a_slow_handler_of_their_endpoint_does_not_cost_the_connection() -> None:
    """It answers no `_ping_` while a handler runs, for many of our heartbeats here."""
    async with serve_theirs() as url, our_client(f"{url}&heartbeat=0.1") as client:
        session = client.transport.inbox
        assert await client.other.nap(seconds=1.0) == 1.0
        assert client.transport.inbox == session


async def test_our_client_gets_structured_results() -> None:
    async with serve_theirs() as url, our_client(url) as client:
        assert await client.other.older(name="Ada", age=36) == {"name": "Ada", "age": 37}


async def test_their_endpoint_calls_our_client_back_later() -> None:
    async with serve_theirs() as url, our_client(url, expose=our_service()) as client:
        assert (await called_back(client, "double", n=4))["result"] == 8
        assert (await called_back(client, "older", person={"name": "Ada", "age": 36}))["result"]["age"] == 37


async def called_back(client: Client, method: str, **arguments: Any) -> dict[str, Any]:
    """What their endpoint got for its call to our client. It drops who asks too early."""
    answered = asyncio.Event()
    call_id = await client.other.call_me_back(method_name=method, args=arguments)
    asyncio.get_running_loop().call_later(NAP, answered.set)
    await answered.wait()
    response: dict[str, Any] = await client.other.get_response(call_id=call_id)
    assert response["call_id"] == call_id
    return response


async def test_on_connect_calls_the_peer_on_either_side_of_their_endpoint() -> None:
    heard = []
    tasks = set()

    async def theirs_connects(channel: Any) -> None:
        tasks.add(asyncio.create_task(ask(channel)))

    async def ask(channel: Any) -> None:
        heard.append(("our double", "", (await channel.other.double(n=4)).result))

    async def ours_connects(peer: RemotePeer) -> None:
        heard.append(("their double", peer.dialect, await peer.other.double(n=21)))

    async with (
        serve_theirs(on_connect=[theirs_connects]) as url,
        our_client(url, expose=our_service(), on_connect=ours_connects),
    ):
        await eventually(lambda: len(heard) == 2)
    assert sorted(heard) == [("our double", "", 8), ("their double", "fastapi_websocket_rpc", 42)]


@pytest.mark.parametrize("answers_in", [BinarySocket, JsonSerializingWebSocket])
async def test_our_client_speaks_binary_frames_to_an_endpoint_that_takes_no_others(
    monkeypatch: pytest.MonkeyPatch, answers_in: type[JsonSerializingWebSocket]
) -> None:
    """With its own serializer it takes binary frames, and writes text where uvicorn sends a str as what it is."""
    monkeypatch.setattr(WebSocket, "send_bytes", _send_as_it_is)
    async with (
        serve_theirs(frame_type=WebSocketFrameType.Binary, serializing_socket_cls=answers_in) as url,
        our_client(f"{url}&binary=true", expose=our_service()) as client,
    ):
        assert await client.other.echo(text="grüße") == "grüße"
        assert (await called_back(client, "double", n=4))["result"] == 8


async def _send_as_it_is(websocket: WebSocket, data: str | bytes) -> None:
    """As uvicorn did until its `websockets` became the one without I/O."""
    await websocket.send({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})


async def test_our_client_with_a_token_is_let_in() -> None:
    door = Door()
    async with serve_theirs(door.check) as url, our_client(url, transport_options={"headers": GOOD}) as client:
        assert await client.other.double(n=4) == 8


async def test_our_client_without_a_token_reports_the_refusal_and_gives_up() -> None:
    door = Door()
    async with serve_theirs(door.check) as url:
        with pytest.raises(UsageError, match="HTTP 403"):
            await our_client(url).__aenter__()
        client = our_client(url)  # this one connects with its first call
        with pytest.raises(UsageError, match="HTTP 403"):
            await client.other.double(n=4)
        await client.close()
        await asyncio.sleep(NAP)
        assert door.asked == 2


async def test_our_client_whose_token_was_revoked_stops_reconnecting() -> None:
    door = Door()
    async with serve_theirs(door.check) as url, our_client(url, transport_options={"headers": GOOD}) as client:
        door.tokens.clear()
        with pytest.raises(ConnectionLost):
            await client.other.boom()
        await eventually(lambda: client.state is State.CLOSED)
        with pytest.raises(NotSent, match="HTTP 403"):
            await client.other.double(n=4)
        await asyncio.sleep(NAP)
        assert door.asked == 2


# --- our client, its endpoint: what its users complain of ------------------------------------------------


@pytest.mark.parametrize(
    "method, arguments",
    [
        pytest.param("boom", {}, id="a raising handler"),
        pytest.param("no_such_method", {}, id="an unknown method"),
        pytest.param("double", {"m": 4}, id="a wrong argument"),
        pytest.param("unencodable", {}, id="an unencodable result"),
    ],
)
async def test_our_client_reconnects_after_their_endpoint_dropped_it(method: str, arguments: dict[str, Any]) -> None:
    sessions: list[str] = []

    async def note(peer: RemotePeer) -> None:
        sessions.append(peer.id)

    async with serve_theirs() as url, our_client(url, expose=our_service(), on_connect=note) as client:
        with pytest.raises(ConnectionLost):
            await answer_of(getattr(client.other, method)(**arguments))
        assert await client.other.double(n=4) == 8
        assert (await called_back(client, "double", n=4))["result"] == 8
        assert len(set(sessions)) == 2


async def test_our_idempotent_call_survives_the_drop_by_another() -> None:
    """Its endpoint handles one call after the other, so the second one is lost with the connection."""
    async with serve_theirs() as url, our_client(url) as client:
        lost = asyncio.create_task(client.other.boom())
        kept = asyncio.create_task(client.other.using(idempotent=True).double(n=4))
        with pytest.raises(ConnectionLost):
            await lost
        assert await kept == 8


async def test_a_private_name_that_their_endpoint_ignores_ends_by_the_timeout() -> None:
    async with serve_theirs() as url, our_client(url) as client:
        session = client.transport.inbox
        with pytest.raises(DeadlineExceeded):
            await client.other.using(timeout=NAP)._private()
        assert await client.other.double(n=4) == 8
        assert client.transport.inbox == session
        assert client.pending == 0


async def test_our_arguments_by_position_are_refused_before_they_are_sent() -> None:
    async with serve_theirs() as url, our_client(url) as client:
        with pytest.raises(UsageError, match="by name"):
            await client.other.double(4)
        assert await client.other.double(n=4) == 8


@pytest.mark.parametrize("method, arguments, error", FAILURES)
async def test_a_failure_of_our_client_answers_their_endpoint_and_touches_nothing_else(
    method: str, arguments: dict[str, Any], error: type[Exception]
) -> None:
    async with serve_theirs() as url, our_client(url, expose=our_service()) as client:
        session = client.transport.inbox
        response = await called_back(client, method, **arguments)
        assert (response["result"], response["result_type"]) == (None, "error")
        assert client.transport.inbox == session


async def test_what_our_client_exposes_runs_at_once_for_their_endpoint() -> None:
    async with serve_theirs() as url, our_client(url, expose=our_service()) as client:
        ids = [await client.other.call_me_back(method_name="nap", args={"seconds": NAP}) for _ in range(5)]
        await asyncio.sleep(3 * NAP)
        responses = [await client.other.get_response(call_id=call_id) for call_id in ids]
        assert [response["result"] for response in responses] == [NAP] * 5


async def test_what_our_client_exposes_may_call_their_endpoint() -> None:
    async with serve_theirs() as url, our_client(url, expose=our_service()) as client:
        assert (await called_back(client, "ask_back", n=4))["result"] == 9


async def test_a_cancelled_call_leaves_nothing_behind() -> None:
    async with serve_theirs() as url, our_client(url) as client:
        napping = asyncio.create_task(client.other.nap(seconds=NAP))
        await eventually(lambda: client.pending == 1)
        napping.cancel()
        await asyncio.gather(napping, return_exceptions=True)
        assert client.pending == 0
        assert await client.other.double(n=4) == 8
