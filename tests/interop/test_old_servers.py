"""Servers that know nothing of rpckit, called by its plain client; and old and new servers on one queue."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from rpckit import Client, DeadlineExceeded, NoResponder
from rpckit.demo import FibonacciRpcClient
from tests.interop.conftest import RunPeer, StartPeer

FIB_30 = 832040
SERVERS = ["pika_server", "aioamqp_server", "faststream_server"]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("by", ["argument", "url"])
async def test_the_typed_client_gets_it_from_an_old_server(
    no_queue: str, start_peer: StartPeer, server: str, by: str
) -> None:
    """The queues differ: durable quorum, transient, durable classic."""
    plain = (
        FibonacciRpcClient(no_queue, dialect="plain")
        if by == "argument"
        else FibonacciRpcClient(f"{no_queue}?dialect=plain")
    )
    with start_peer(server, no_queue):
        async with plain as fibonacci_rpc:
            assert await fibonacci_rpc.call(30) == FIB_30
            assert await fibonacci_rpc.fib(n=4) == 3
            assert await asyncio.gather(*map(fibonacci_rpc.fib, range(8))) == [0, 1, 1, 2, 3, 5, 8, 13]


async def test_the_plain_client_works_over_direct_reply_to(no_queue: str, start_peer: StartPeer) -> None:
    with start_peer("pika_server", no_queue):
        async with FibonacciRpcClient(f"{no_queue}?dialect=plain&reply=direct") as fibonacci_rpc:
            assert await fibonacci_rpc.call(30) == FIB_30


async def test_raw_requests_reach_a_faststream_server(no_queue: str, start_peer: StartPeer) -> None:
    with start_peer("faststream_server", no_queue):
        async with Client(no_queue) as client:
            reply = await client.request("rpc_queue", 30)
            assert (reply.body, reply.content_type) == (b"832040", "application/json")
            assert (await client.request("rpc_queue", "4")).decode() == 3


async def test_a_faststream_handler_that_raises_is_silent_and_ends_in_a_deadline(
    no_queue: str, start_peer: StartPeer
) -> None:
    with start_peer("faststream_server", no_queue):
        async with FibonacciRpcClient(no_queue, dialect="plain") as fibonacci_rpc:
            with pytest.raises(DeadlineExceeded):
                await fibonacci_rpc.using(timeout=0.5).fib(-1)
            assert await fibonacci_rpc.fib(4) == 3


async def test_an_old_server_that_is_gone_is_no_responder(no_queue: str, start_peer: StartPeer) -> None:
    """Its durable queue outlives it, and would keep the call for ever."""
    with start_peer("pika_server", no_queue):
        pass
    async with FibonacciRpcClient(no_queue, dialect="plain", timeout=5) as fibonacci_rpc:
        with pytest.raises(NoResponder):
            await fibonacci_rpc.call(4)


@pytest.mark.parametrize("server", ["pika_server", "aioamqp_server"])
async def test_old_and_new_servers_share_a_queue(
    no_queue: str, start_peer: StartPeer, start_server: StartPeer, run_peer: RunPeer, server: str
) -> None:
    """Plain callers, old and new, get their answers from whichever is free; both servers get work."""
    with start_peer(server, no_queue) as old, start_server(no_queue):
        async with FibonacciRpcClient(no_queue, dialect="plain") as fibonacci_rpc:
            for _ in range(20):
                assert await fibonacci_rpc.call(30) == FIB_30
        assert (await asyncio.to_thread(run_peer, "pika_client", no_queue, 10, 20)).out.split() == [
            "55",
            "6765",
        ]
        answered = old.output.count("fib(")
        assert 0 < answered < 22


@pytest.mark.parametrize("first", ["pika", "rpckit"])
def test_either_server_may_come_first(
    no_queue: str, start_server: StartPeer, start_peer: StartPeer, run_peer: RunPeer, first: str
) -> None:
    """Both want a quorum queue, and rpckit takes the queue that it finds."""
    starts = [partial(start_peer, "pika_server", no_queue), partial(start_server, no_queue)]
    earlier, later = starts if first == "pika" else reversed(starts)
    with earlier(), later():
        assert run_peer("pika_client", no_queue, 30).out.split() == [str(FIB_30)]
