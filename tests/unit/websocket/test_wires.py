"""Connections of `websockets` over a transport that only remembers: how they are closed."""

from __future__ import annotations

import asyncio
import logging

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Close
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from rpckit_websocket._wires import MAX_REASON, ClientWire, fitting


class FakeTransport(asyncio.Transport):
    """What leads to the Sans-I/O server of `websockets`, which answers at once."""

    def __init__(self) -> None:
        super().__init__()
        self.server = ServerProtocol()
        self.wire = ClientWire(ClientProtocol(parse_uri("ws://here/")))
        self.aborted = False
        self._lost = False
        self.wire.connection_made(self)
        self._shake_hands()

    def _shake_hands(self) -> None:
        client = self.wire.protocol
        client.send_request(client.connect())
        self.server.receive_data(b"".join(client.data_to_send()))
        (request,) = self.server.events_received()
        assert isinstance(request, Request)
        self.server.send_response(self.server.accept(request))
        self.wire.data_received(b"".join(self.server.data_to_send()))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.server.receive_data(bytes(data))
        for part in self.server.data_to_send():
            if part:
                self.wire.data_received(part)
            else:
                self._end()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self._lost

    def abort(self) -> None:
        self.aborted = True
        self._end()

    def _end(self) -> None:
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_soon(self.wire.connection_lost, None)


@pytest.mark.parametrize(
    "reason, kept",
    [
        pytest.param("bye", "bye", id="short"),
        pytest.param("x" * 200, "x" * 123, id="one byte each"),
        pytest.param("é" * 100, "é" * 61, id="two"),
        pytest.param("漢" * 100, "漢" * 41, id="three"),
        pytest.param("\U0001f600" * 100, "\U0001f600" * 30, id="four"),
        pytest.param("a \ud800 alone", "a ? alone", id="none"),
    ],
)
def test_a_reason_is_cut_between_characters_to_what_a_close_frame_holds(reason: str, kept: str) -> None:
    assert fitting(reason) == kept
    assert len(kept.encode()) <= MAX_REASON


@pytest.mark.parametrize("reason", ["é" * 100, "\U0001f600" * 45, "\ud800"], ids=["two bytes", "four bytes", "none"])
async def test_a_connection_is_closed_in_good_order_whatever_script_the_reason_is_in(reason: str) -> None:
    transport = FakeTransport()
    transport.wire.shut(1000, reason)
    await asyncio.wait_for(transport.wire.wait_closed(), 1)
    assert transport.server.close_rcvd == Close(1000, fitting(reason))
    assert not transport.aborted


async def test_a_connection_that_cannot_be_closed_in_good_order_is_cut_off_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for the closing: an error in it would leave the session open for ever."""

    async def close(code: int = 1000, reason: str = "") -> None:
        raise ValueError("a defect")

    transport = FakeTransport()
    monkeypatch.setattr(transport.wire, "close", close)
    transport.wire.shut(1000, "bye")
    await asyncio.wait_for(transport.wire.wait_closed(), 1)
    assert transport.aborted
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "a defect" in str(record.exc_info)
