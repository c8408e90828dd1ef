"""The service that the calls of the suite call: it remembers what became of its work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rpckit.client import Client
from rpckit.context import Context, Response
from rpckit.contract import Service
from rpckit.errors import PermissionDenied

__all__ = ["Probe"]


class Probe:
    """`service` is what it serves. Calls of `hold` and `hold_again` wait for `gate`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.gate = asyncio.Event()
        self.began: list[Any] = []
        self.ended: list[Any] = []
        self.cancelled: list[Any] = []
        self.running = 0
        self.most_running = 0
        self.nested: Client | None = None
        self.service = Service("probe", address=address)
        self.service.method(self.add)
        self.service.method(self.boom)
        self.service.method(self.refuse)
        self.service.method(self.unencodable)
        self.service.method(self.give_up)
        self.service.method(self.burden)
        self.service.method(self.hold)
        self.service.method(self.nap)
        self.service.method(self.nap_in_thread)
        self.service.method(self.tell)
        self.service.method(self.respond)
        self.service.method(self.descend)
        self.service.method(self.delegate)
        self.service.method(default=True)(self.echo)
        self.service.method(no_reply=True)(self.note)
        self.service.method(idempotent=True)(self.hold_again)

    def at(self, method: str) -> str:
        """The target of a call."""
        return f"{self.address}.{method}"

    async def echo(self, value: Any) -> Any:
        return value

    async def add(self, a: int, b: int = 1) -> int:
        return a + b

    async def boom(self) -> None:
        raise ValueError("a secret")

    async def refuse(self) -> None:
        raise PermissionDenied("not you")

    async def unencodable(self) -> object:
        return object()

    async def give_up(self) -> None:
        raise asyncio.CancelledError

    async def burden(self, size: int) -> bytes:
        return bytes(size)

    async def note(self, tag: Any) -> None:
        self.began.append(tag)

    async def hold(self, tag: Any = None) -> Any:
        with self._watched(tag):
            await self.gate.wait()
        return tag

    async def hold_again(self, tag: Any = None) -> Any:
        return await self.hold(tag)

    async def nap(self, seconds: float, tag: Any = None) -> Any:
        with self._watched(tag):
            await asyncio.sleep(seconds)
        return tag

    def nap_in_thread(self, seconds: float) -> int:
        time.sleep(seconds)
        return threading.get_ident()

    async def tell(self, context: Context) -> dict[str, Any]:
        """What a handler can know of its call."""
        return {
            "headers": dict(context.headers),
            "attempt": context.attempt,
            "depth": context.depth,
            "time_left": context.time_left(),
            "caller": context.caller,
        }

    async def respond(self, body: bytes, context: Context) -> Response:
        """The body in capitals, the headers as they came, a correlation id of its own."""
        return Response(body.upper(), headers=context.headers, correlation_id="its own")

    async def descend(self, levels: int) -> int:
        """Calls itself, `levels` deep, and counts."""
        assert self.nested is not None
        if levels == 0:
            return 0
        return 1 + int(await self.nested.call(self.at("descend"), levels - 1))

    async def delegate(self, method: str, argument: Any) -> Any:
        """Calls another method, for as long as that takes."""
        assert self.nested is not None
        return await self.nested.call(self.at(method), argument, timeout=None)

    @contextmanager
    def _watched(self, tag: Any) -> Iterator[None]:
        self.began.append(tag)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            yield
            self.ended.append(tag)
        except asyncio.CancelledError:
            self.cancelled.append(tag)
            raise
        finally:
            self.running -= 1
