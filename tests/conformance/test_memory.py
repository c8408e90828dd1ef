"""The memory transport passes the suite that it is the reference for."""

from __future__ import annotations

import asyncio

import pytest

from rpckit.ids import new_id
from rpckit.memory import MemoryBroker, MemoryTransport
from rpckit.testing.conformance import ReconnectConformance, TransportConformance
from rpckit.transport import Transport

BACK_AFTER_S = 0.05


class _Memory:
    @pytest.fixture
    def url(self) -> str:
        """A broker of this test alone, held until its end."""
        name = new_id()
        self.broker = MemoryBroker()
        MemoryBroker.register(name, self.broker)
        return f"memory://{name}"


class TestMemory(_Memory, TransportConformance):
    pass


class TestMemoryReconnects(_Memory, ReconnectConformance):
    async def cut(self, transport: Transport) -> None:
        assert isinstance(transport, MemoryTransport)
        transport.drop()
        asyncio.get_running_loop().call_later(BACK_AFTER_S, transport.restore)
