"""RabbitMQ passes the suite, however its replies come and its queues are declared."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import ClassVar

import pika
import pytest

from rpckit.testing import RabbitMq
from rpckit.testing.conformance import ReconnectConformance, TransportConformance
from rpckit.transport import Transport
from rpckit_amqp import AmqpTransport
from tests.conftest import BrokerAt

LEFT: list[str] = []  # durable queues outlive their tests; the last one takes them all with it


@pytest.fixture(scope="module", autouse=True)
def _nothing_left(rabbitmq: RabbitMq | BrokerAt) -> Iterator[None]:
    """No connection, and no queue but the durable ones: of requests, deleted here, and of groups, which expire."""
    before = _listed(rabbitmq)
    yield
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    channel = connection.channel()
    while LEFT:
        channel.queue_delete(LEFT.pop())
    connection.close()
    assert _listed(rabbitmq) - before == set()


def _listed(broker: RabbitMq | BrokerAt) -> set[str]:
    """Queues and connections; nothing where the broker is not ours to ask."""
    if not isinstance(broker, RabbitMq):
        return set()
    tables = (broker.ctl(what, "--no-table-headers", "name") for what in ("list_queues", "list_connections"))
    return {line for table in tables for line in table.splitlines() if not line.startswith("rpckit.group.")}


class _Amqp:
    options: ClassVar[str] = ""

    @pytest.fixture
    def url(self, amqp_url: str) -> str:
        return amqp_url + self.options

    async def forget(self, addresses: Sequence[str]) -> None:
        LEFT.extend(addresses)


class TestAmqp(_Amqp, TransportConformance):
    pass


class TestDirectReplies(_Amqp, TransportConformance):
    options = "?reply=direct"


class TestQuorumQueues(_Amqp, TransportConformance):
    options = "?declare=quorum"


class TestAmqpReconnects(_Amqp, ReconnectConformance):
    async def cut(self, transport: Transport) -> None:
        """Abort the sockets of both connections; the transport is told by its event loop, as of any loss."""
        assert isinstance(transport, AmqpTransport)
        for connection in (transport._publishing, transport._consuming):
            if connection is not None and connection.session is not None:
                connection.session.protocol.transport.abort()  # type: ignore[union-attr]  # alive until now
        await asyncio.sleep(0)


class TestDirectRepliesReconnect(TestAmqpReconnects):
    options = "?reply=direct"
    inbox_is_an_alias = True
