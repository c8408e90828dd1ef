"""The WebSocket transport passes the suite: a server that listens, and clients that dial it."""

from __future__ import annotations

import asyncio

import pytest

from rpckit.testing._ports import free_port
from rpckit.testing.conformance import ReconnectConformance, TransportConformance
from rpckit.transport import Transport
from rpckit_websocket import WebSocketTransport


class _WebSocket:
    @pytest.fixture
    def url(self) -> str:
        return f"ws://127.0.0.1:{free_port()}/ws?peer_limit=1000"


class TestNative(_WebSocket, TransportConformance):
    pass


class TestNativeReconnects(_WebSocket, ReconnectConformance):
    async def cut(self, transport: Transport) -> None:
        """Abort the socket; the session is lost as by any failing network."""
        assert isinstance(transport, WebSocketTransport)
        for link in list(transport.sessions.values()):
            link.wire.abort()  # type: ignore[attr-defined]  # a link, behind the seam
        await asyncio.sleep(0)
