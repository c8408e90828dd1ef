"""A chat: rooms, who is here, and a history, in as many server processes as you like.

::

    python tutorials/chat/server.py --port 8000                      # one process, by itself
    python tutorials/chat/server.py --port 8000 --redis localhost    # and any number of these, joined through Redis

People connect over WebSocket: pages speak JSON-RPC, the terminal rpckit.v1, and the clients of the old program (see
README.md) their own form at `/chat/{nickname}`. Processes tell each other by events over Redis: one connection each,
however many people.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from rooms import MAX_NAME, MAX_TEXT, Line, Rooms

from rpckit import Client, Context, Server, Service
from rpckit.errors import InvalidArgument, NoResponder, NotSent, RpcError
from rpckit.peers import RemotePeer
from rpckit_websocket import JAVASCRIPT, WebSocketEndpoint

log = logging.getLogger("chat")

PAGE = Path(__file__).parent / "page"
OLD_ROOM = "global_room"  # where the old client is, and new ones may join it
TELL_NAMES_S = 10.0  # seconds between two words of each process on who is here
MAX_OLD_UNSENT = 100  # lines that wait for an old client that does not read; then it is dropped


class Chat:
    """One server process. `bus` is the URL by which the processes hear each other."""

    def __init__(self, bus: str) -> None:
        self.rooms = Rooms(process=uuid4().hex[:8])
        self.bus = bus
        self.service = self._service()
        self.news = Server(self._bus_service(), url=bus)
        self.endpoint = WebSocketEndpoint(self.service, on_disconnect=self._left)
        self.old: dict[asyncio.Queue[str], str] = {}  # what waits for each old client, and its name
        self.app = FastAPI(title="chat", lifespan=self._lifespan)
        self.endpoint.register(self.app, "/ws")
        self.app.add_api_websocket_route("/chat/{nickname}", self._old_client)
        for file in (PAGE / "index.html", PAGE / "chat.js", PAGE / "chat.css", JAVASCRIPT):
            path = "/" if file.name == "index.html" else f"/{file.name}"
            self.app.add_api_route(path, _file(file), include_in_schema=False)

    # -- what people call ---------------------------------------------------------------------------

    def _service(self) -> Service:
        service = Service("chat")

        @service.method
        async def join(ctx: Context, nickname: str, room: str = "lobby", since: str = "") -> dict[str, Any]:
            """Enter a room; who is here, and what was said after the line `since`."""
            peer = self.endpoint.peers[ctx.session]
            nickname, room = _name("nickname", nickname), _name("room", room)
            own = peer.state.get("nickname") if peer.state.get("room") == room else None
            peer.state.update(room=room, nickname=self.rooms.free_name(room, nickname, own))
            await self._tell_names()
            return {
                "nickname": peer.state["nickname"],
                "who": self.rooms.who(room),
                "history": self.rooms.history(room, since),
            }

        @service.method
        async def say(ctx: Context, text: str) -> str:
            """Say something in the room one is in, under the name one joined with; the line's id."""
            state = self.endpoint.peers[ctx.session].state
            if "nickname" not in state:
                raise InvalidArgument("join a room first")
            text = text.strip()
            if not 0 < len(text) <= MAX_TEXT:
                raise InvalidArgument(f"a line has 1 to {MAX_TEXT} characters")
            return await self._say(state["room"], state["nickname"], text)

        return service

    async def _left(self, peer: RemotePeer) -> None:
        if peer.state:
            await self._tell_names()

    async def _say(self, room: str, nickname: str, text: str) -> str:
        line = self.rooms.line(room, nickname, text, time.time())
        await self.news.emit("chat.said", line.id, line.room, line.nickname, line.text, line.at)
        return line.id

    async def _tell_names(self) -> None:
        names: dict[str, list[str]] = {}
        for peer in self.endpoint.peers.values():
            if "nickname" in peer.state:
                names.setdefault(peer.state["room"], []).append(peer.state["nickname"])
        if self.old:
            names.setdefault(OLD_ROOM, []).extend(self.old.values())
        await self._hear_names(self.rooms.process, names)
        await self.news.emit("chat.names", self.rooms.process, names)

    # -- what the processes tell each other -----------------------------------------------------------

    def _bus_service(self) -> Service:
        service = Service("chat-bus")
        service.on("chat.said")(self._hear_line)
        service.on("chat.names")(self._hear_names)

        @service.method
        async def everything() -> list[dict[str, Any]]:
            return self.rooms.everything()

        return service

    async def _hear_line(self, id: str, room: str, nickname: str, text: str, at: float) -> None:
        line = Line(id, room, nickname, text, at)
        if not self.rooms.add(line):
            return
        await self._tell_people(room, "said", id=id, room=room, nickname=nickname, text=text, at=at)
        if room == OLD_ROOM:
            self._tell_old(line)

    async def _hear_names(self, process: str, names: dict[str, list[str]]) -> None:
        for room in self.rooms.hear_names(process, names, time.monotonic()):
            await self._tell_people(room, "who", room=room, names=self.rooms.who(room))

    async def _tell_people(self, where: str, method: str, **news: Any) -> None:
        for peer in list(self.endpoint.peers.values()):
            if peer.state.get("room") == where:
                try:
                    await peer.notify(method, **news)
                except RpcError as error:  # it left just now, or does not read
                    log.debug("%r was not told: %s", peer, error)

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(TELL_NAMES_S)
            try:
                await self._tell_names()
            except RpcError as error:
                log.warning("the other processes were not told who is here: %s", error)
            for room in self.rooms.forget_silent(time.monotonic()):
                await self._tell_people(room, "who", room=room, names=self.rooms.who(room))

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        await self._learn()
        async with self.news, asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._keep_telling())
            yield
            telling.cancel()
            await self.news.emit("chat.names", self.rooms.process, {})

    async def _learn(self) -> None:
        """What was said before this process started, from another one; the first one begins with nothing."""
        try:
            async with Client(self.bus) as client:
                for line in await client.call("chat-bus.everything", timeout=2):
                    self.rooms.add(Line(**line))
        except (NoResponder, NotSent, TimeoutError):  # nobody is there, or not even a bus, which the first one starts
            log.info("no other process is here: the history begins now")

    # -- the old client -------------------------------------------------------------------------------

    async def _old_client(self, websocket: WebSocket, nickname: str) -> None:
        """JSON text frames with a `nickname`, as before; but the name is the session's, whatever a frame says."""
        await websocket.accept()
        lines: asyncio.Queue[str] = asyncio.Queue(MAX_OLD_UNSENT)
        self.old[lines] = nickname[:MAX_NAME]
        writing = asyncio.create_task(_write_lines(websocket, lines))
        try:
            await self._tell_names()
            while not writing.done():
                await self._read_old_frame(await websocket.receive_text(), self.old[lines], lines)
        except WebSocketDisconnect:
            log.info("%s left", nickname[:MAX_NAME])
        finally:
            del self.old[lines]
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await self._tell_names()

    async def _read_old_frame(self, frame: str, nickname: str, lines: asyncio.Queue[str]) -> None:
        """A frame that is no good is answered, to its sender alone."""
        try:
            said = json.loads(frame)
            text = said.get("message") or said.get("text") or said.get("data")
            if not isinstance(text, str) or len(text) > MAX_TEXT:
                raise TypeError("a frame has a message, a string")
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            if not lines.full():
                lines.put_nowait(json.dumps({"nickname": "server", "error": f"not understood: {error}"}))
            return
        await self._say(OLD_ROOM, nickname, text)

    def _tell_old(self, line: Line) -> None:
        frame = json.dumps({"nickname": line.nickname, "message": line.text, "text": line.text})
        for lines, nickname in self.old.items():
            if nickname != line.nickname and not lines.full():  # nobody hears himself, as ever
                lines.put_nowait(frame)


async def _write_lines(websocket: WebSocket, lines: asyncio.Queue[str]) -> None:
    while True:
        await websocket.send_text(await lines.get())


def _name(what: str, value: str) -> str:
    value = value.strip()
    if not 0 < len(value) <= MAX_NAME:
        raise InvalidArgument(f"a {what} has 1 to {MAX_NAME} characters")
    return value


def _file(path: Path) -> Any:
    async def send() -> FileResponse:
        return FileResponse(path)

    return send


def bus_url(redis: str) -> str:
    """`localhost`, `host:port`, `embedded` or a URL; nothing for one process alone."""
    if not redis:
        return "memory://chat"
    return redis if "://" in redis else f"redis+pubsub://{redis}"


def run_server(
    host: Annotated[str, typer.Option(help="where to listen")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="where to listen")] = 8000,
    redis: Annotated[str, typer.Option(help="what joins the processes: HOST, HOST:PORT, a URL or `embedded`")] = "",
) -> None:
    """Serve the chat: open http://HOST:PORT in a browser, or run terminal.py."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    typer.echo(f"open http://{host}:{port} in a browser")
    uvicorn.run(Chat(bus_url(redis)).app, host=host, port=port, log_level="warning")


if __name__ == "__main__":
    typer.run(run_server)
