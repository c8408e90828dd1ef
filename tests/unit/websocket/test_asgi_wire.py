"""The wire of an ASGI server that is only this test: how it is closed, and what becomes of what that server raises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.websockets import WebSocket

from rpckit_websocket._asgi_wire import AsgiWire
from rpckit_websocket._options import WebSocketOptions


class FakeServer:
    """Accepts what is sent to it, or raises; says nothing but that somebody connects."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[Any] = []
        self.left = asyncio.Event()
        self.error = error
        self._said = False

    async def receive(self) -> dict[str, Any]:
        if self._said:
            await self.left.wait()
            return {"type": "websocket.disconnect", "code": 1006}
        self._said = True
        return {"type": "websocket.connect"}

    async def send(self, message: Any) -> None:
        if self.error is not None and message["type"] != "websocket.accept":
            raise self.error
        self.sent.append(message)


async def accepted(server: FakeServer) -> AsgiWire:
    websocket = WebSocket({"type": "websocket", "client": ("there", 1)}, server.receive, server.send)
    await websocket.accept()
    return AsgiWire(websocket, WebSocketOptions.model_validate({}))


async def test_a_text_waits_with_its_bytes_and_leaves_with_them() -> None:
    wire = await accepted(FakeServer())
    running = asyncio.create_task(wire.run())
    wire.write("漢" * 100)
    assert wire.unsent == 300
    await asyncio.sleep(0.01)
    assert wire.unsent == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_reason_in_another_script_is_cut_to_what_a_close_frame_holds() -> None:
    server = FakeServer()
    wire = await accepted(server)
    running = asyncio.create_task(wire.run())
    await asyncio.sleep(0)
    wire.shut(1000, "é" * 100)
    await asyncio.wait_for(running, 1)
    assert server.sent[-1] == {"type": "websocket.close", "code": 1000, "reason": "é" * 61}


@pytest.mark.parametrize("closing", [True, False])
async def test_what_the_asgi_server_raises_at_a_write_cuts_the_connection_off_and_is_logged(
    caplog: pytest.LogCaptureFixture, closing: bool
) -> None:
    wire = await accepted(FakeServer(ValueError("control frame too long")))
    running = asyncio.create_task(wire.run())
    await asyncio.sleep(0)
    if closing:
        wire.shut(1000, "bye")
    else:
        wire.write("5")
    await asyncio.wait_for(running, 1)
    assert "control frame too long" in wire.why
    assert "writing to Address(host='there', port=1) failed" in caplog.text


async def test_what_is_written_to_a_peer_that_leaves_cancels_nothing_of_the_frameworks() -> None:
    """The task that reads is the framework's again once the connection is over: dependencies clean up there."""
    server = FakeServer(OSError("gone"))
    wire = await accepted(server)
    over = asyncio.Event()

    async def serve() -> None:
        try:
            await wire.run()
        finally:
            over.set()
        await asyncio.sleep(0.01)

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0)
    server.left.set()
    while not over.is_set():
        wire.write("5")
        await asyncio.sleep(0)
    await serving
