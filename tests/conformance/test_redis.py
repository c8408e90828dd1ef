"""Redis passes the suite with each kind of place."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from rpckit.testing.conformance import ReconnectConformance, TransportConformance
from rpckit.transport import Transport
from rpckit_redis import RedisTransport


class _Redis:
    kind: ClassVar[str]

    @pytest.fixture
    def url(self, redis_url: str) -> str:
        return redis_url.replace("redis://", f"redis+{self.kind}://")


class _Reconnects(ReconnectConformance):
    async def cut(self, transport: Transport) -> None:
        """Abort the socket; the transport is told by its event loop, as of any loss."""
        assert isinstance(transport, RedisTransport)
        session = transport._connection.session
        if session is not None and session.main._transport is not None:
            session.main._transport.abort()
        await asyncio.sleep(0)


class TestStreams(_Redis, TransportConformance):
    kind = "stream"


class TestLists(_Redis, TransportConformance):
    kind = "list"


class TestPubSub(_Redis, TransportConformance):
    kind = "pubsub"


class TestStreamsReconnect(_Redis, _Reconnects):
    kind = "stream"


class TestListsReconnect(_Redis, _Reconnects):
    kind = "list"


class TestPubSubReconnects(_Redis, _Reconnects):
    kind = "pubsub"
