"""An exchange of another program may be deleted by its owner at any time: that ends no call, and no connection."""

from __future__ import annotations

import asyncio

import pika
import pytest

from rpckit import Client, Server, Service
from rpckit.ids import new_id

ROUNDS = 16  # in most of them the broker closes the channel just when it matters

pytestmark = pytest.mark.timeout(60)


async def test_an_event_beside_one_to_a_deleted_exchange_ends_no_call(amqp_url: str) -> None:
    """The channel it is to take is closed over the other one while its own exchange is looked for.

    It may be lost with it, if the broker had closed it and we did not know.
    """
    name, lost = f"faults.{new_id()[:8]}", []
    service = Service(name)

    @service.method
    async def wait() -> str:
        await asyncio.sleep(0.1)
        return "done"

    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        owner = connection.channel()
        async with Server(service, url=amqp_url), Client(amqp_url) as client:
            await client.connect()
            client.transport.on_state(lambda _, why: lost.append(why))
            for n in range(ROUNDS):
                gone, there = f"{name}.gone{n}", f"{name}.there{n}"
                await client.emit(f"fanout:{gone}", 1)
                owner.exchange_delete(gone)
                call = asyncio.create_task(client.call(f"{name}.wait"))
                await asyncio.sleep(0.02)
                await asyncio.gather(client.emit(f"fanout:{gone}", 2), client.emit(f"fanout:{there}", 3))
                assert await call == "done"
                owner.exchange_delete(there)
    assert [why for why in lost if "closed by this process" not in why] == []
