"""The chat in a terminal: it reads while it writes, and comes back by itself.

::

    python tutorials/chat/terminal.py --nickname ada --room lobby
"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from rpckit import Client, Service
from rpckit.errors import RpcError
from rpckit.peers import RemotePeer

ERASE = "\r\033[K"  # the line being typed; the terminal shows it again with the next key


class Terminal:
    def __init__(self, url: str, nickname: str, room: str) -> None:
        self.nickname = nickname
        self.room = room
        self.since = ""
        self.leaving = False
        service = Service("terminal")
        service.method(self.said)
        service.method(self.who)
        self.client = Client(url, expose=service, on_connect=self.join, on_disconnect=self.lost)

    async def said(self, id: str, room: str, nickname: str, text: str, at: float) -> None:
        if id > self.since:
            self.since = id
            self.show(f"{nickname}: {text}")

    async def who(self, room: str, names: list[str]) -> None:
        self.show(f"* here: {', '.join(names)}")

    async def join(self, peer: RemotePeer) -> None:
        """After each connect: what was said meanwhile is not lost."""
        try:
            joined = await peer.other.join(self.nickname, self.room, self.since)
        except RpcError as error:
            self.show(f"* not joined: {error}")
            return
        self.show(f"* you are {joined['nickname']} in {self.room}; here: {', '.join(joined['who'])}")
        for line in joined["history"]:
            await self.said(**line)

    async def lost(self, peer: RemotePeer) -> None:
        if not self.leaving:
            self.show("* the connection is lost; trying again")

    def show(self, text: str) -> None:
        print(f"{ERASE if sys.stdout.isatty() else ''}{text}", flush=True)

    async def run(self) -> None:
        """Until the end of the input."""
        async with self.client:
            reader = await _stdin()
            try:
                while line := await reader.readline():
                    if text := line.decode(errors="replace").strip():
                        await self._say(text)
            except ValueError:  # of a reader with a limit
                self.show("* that line is too long to be said")
            finally:
                self.leaving = True

    async def _say(self, text: str) -> None:
        try:
            await self.client.other.say(text)
        except RpcError as error:
            self.show(f"* not said: {text[:40]!r}: {error}")


async def _stdin() -> asyncio.StreamReader:
    """Read without a thread that would outlive us."""
    reader = asyncio.StreamReader()
    loop: Any = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def main(
    url: Annotated[str, typer.Option(help="the server")] = "ws://localhost:8000/ws",
    nickname: Annotated[str, typer.Option(help="what to be called")] = "somebody",
    room: Annotated[str, typer.Option(help="where to go")] = "lobby",
) -> None:
    """Chat; each line typed is said. Ctrl-D ends it."""
    try:
        asyncio.run(Terminal(url, nickname, room).run())
    except RpcError as error:
        raise SystemExit(f"cannot chat: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(0) from None


if __name__ == "__main__":
    typer.run(main)
