"""Work in flight: nesting, limits, cancelling, draining, death."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable

import pytest

from rpckit.errors import DeadlineExceeded, Expired, OutcomeUnknown
from rpckit.testing.conformance._probe import Probe
from rpckit.testing.conformance._rig import PATIENCE_S, Rig, RigFixtures, kill, quiet, until
from rpckit.transport import Capabilities

__all__ = ["Cancelling", "Draining", "Limits"]


class Limits(RigFixtures):
    async def test_no_more_handlers_run_than_allowed(self, rig: Rig, address: str) -> None:
        """`concurrency` is a limit, and all of it is used."""
        probe = Probe(address)
        await rig.server(probe.service, concurrency=3)
        client = await rig.client()
        await asyncio.gather(*(client.call(probe.at("nap"), 0.01) for _ in range(20)))
        assert probe.most_running == 3

    async def test_nested_calls_do_not_starve_each_other(self, rig: Rig, address: str) -> None:
        """Sixteen callers, ten levels deep, through a server that runs four at once."""
        probe = Probe(address)
        await rig.server(probe.service, concurrency=4)
        probe.nested = await rig.client()
        client = await rig.client()
        async with asyncio.timeout(PATIENCE_S):
            counts = await asyncio.gather(*(client.call(probe.at("descend"), 10) for _ in range(16)))
        assert counts == [10] * 16

    async def test_a_nested_call_ends_with_the_one_above(self, rig: Rig, address: str) -> None:
        """A deadline is inherited: what is waited for inside may not take longer than what waits."""
        probe = Probe(address)
        await rig.server(probe.service)
        probe.nested = await rig.client()
        with pytest.raises(DeadlineExceeded):
            await probe.nested.call(probe.at("delegate"), "hold", "inner", timeout=0.2)
        await until(lambda: probe.cancelled == ["inner"], "the end of the inner call")

    async def test_expired_work_is_not_begun(self, rig: Rig, address: str) -> None:
        """What waited behind others until its time was up never runs."""
        probe = Probe(address)
        await rig.server(probe.service, concurrency=1)
        client = await rig.client()
        first = asyncio.create_task(client.call(probe.at("hold"), "first"))
        await until(lambda: probe.began, "the first call")
        with pytest.raises((DeadlineExceeded, Expired)):
            await client.call(probe.at("hold"), "second", timeout=0.1)
        await asyncio.sleep(0.01)  # the clocks of two sides may be some milliseconds apart, and uvloop's is that coarse
        probe.gate.set()
        assert await first == "first"
        assert await client.call(probe.at("hold"), "third") == "third"
        assert probe.began == ["first", "third"]

    async def test_two_servers_share_the_work(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """If `balances`; in any case each call runs once."""
        one, other = Probe(address), Probe(address)
        await rig.server(one.service, concurrency=2)
        await rig.second_server(other.service, concurrency=2)
        client = await rig.client()
        calls = (client.call(one.at("nap"), 0.005, number) for number in range(80))
        assert await asyncio.gather(*calls) == list(range(80))
        if capabilities.balances:
            assert sorted(one.began + other.began) == list(range(80))
            assert min(len(one.began), len(other.began)) >= 10


class Cancelling(RigFixtures):
    async def test_cancelling_reaches_nested_calls(self, rig: Rig, address: str) -> None:
        """The work below a cancelled call ends as well."""
        probe = Probe(address)
        await rig.server(probe.service)
        probe.nested = await rig.client()
        call = asyncio.create_task(probe.nested.call(probe.at("delegate"), "hold", "inner"))
        await until(lambda: probe.began, "the inner handler")
        call.cancel()
        await until(lambda: probe.cancelled == ["inner"], "the cancel")

    async def test_cancelling_a_call_cancels_its_work(self, rig: Rig, address: str) -> None:
        """The handler learns of it in milliseconds, not at its deadline."""
        probe = Probe(address)
        server = await rig.server(probe.service)
        client = await rig.client()
        call = asyncio.create_task(client.call(probe.at("hold"), "cancelled"))
        await until(lambda: probe.began, "the handler")
        call.cancel()
        await until(lambda: probe.cancelled == ["cancelled"], "the cancel", timeout=2)
        await until(lambda: server.in_flight == 0, "the end of the call")
        with pytest.raises(asyncio.CancelledError):
            await call

    async def test_cancelled_before_it_began_it_never_runs(self, rig: Rig, address: str) -> None:
        probe = Probe(address)
        server = await rig.server(probe.service, concurrency=1)
        client = await rig.client()
        first = asyncio.create_task(client.call(probe.at("hold"), "first"))
        second = asyncio.create_task(client.call(probe.at("hold"), "second"))
        await until(lambda: server.in_flight == 2, "both calls")
        second.cancel()
        await until(lambda: server.in_flight == 1, "the cancel")
        probe.gate.set()
        assert await first == "first"
        await quiet()
        assert probe.began == ["first"]

    async def test_a_cancel_reaches_the_one_server_that_runs_the_work(self, rig: Rig, address: str) -> None:
        """Of two servers, and nobody else's call is touched."""
        one, other = Probe(address), Probe(address)
        await rig.server(one.service)
        await rig.second_server(other.service)
        client = await rig.client()
        calls = [asyncio.create_task(client.call(one.at("hold"), number)) for number in range(10)]
        await until(lambda: len(one.began) + len(other.began) == 10, "ten handlers")
        calls[3].cancel()
        await until(lambda: one.cancelled + other.cancelled == [3], "the cancel")
        one.gate.set()
        other.gate.set()
        assert await asyncio.gather(*calls[:3], *calls[4:]) == [0, 1, 2, 4, 5, 6, 7, 8, 9]

    async def test_a_thousand_calls_cancelled_at_random_leave_nothing(self, rig: Rig, address: str) -> None:
        """Before they are sent, in the queue, while they run, with their reply on its way."""
        probe = Probe(address)
        server = await rig.server(probe.service)
        client = await rig.client()
        moments = random.Random(1)
        ends = await asyncio.gather(
            *(_cancelled_after(moments.uniform(0, 0.2), client.call(probe.at("nap"), 0.01, n)) for n in range(1000))
        )
        assert {end for n, end in enumerate(ends) if end != n} <= {None}
        assert client.pending == 0
        await until(lambda: server.in_flight == 0 and probe.running == 0, "the end of all work")
        assert await client.call(probe.at("echo"), "as good as ever") == "as good as ever"


class Draining(RigFixtures):
    async def test_one_of_two_servers_goes_on_when_the_other_leaves(self, rig: Rig, address: str) -> None:
        """Also when each has lost more claims to the other than it has places."""
        one, other = Probe(address), Probe(address)
        leaving = await rig.server(one.service, concurrency=2)
        if await rig.second_server(other.service, concurrency=2) is None:
            return
        client = await rig.client()
        for _ in range(10):
            await asyncio.gather(*(client.call(one.at("nap"), 0) for _ in range(20)))
        await leaving.stop(grace=1)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(client.call(one.at("nap"), 0) for _ in range(20)))

    async def test_what_has_begun_is_finished(self, rig: Rig, address: str) -> None:
        """Within the grace period, and its reply still arrives."""
        probe = Probe(address)
        server = await rig.server(probe.service)
        client = await rig.client()
        calls = [asyncio.create_task(client.call(probe.at("nap"), 0.2, number)) for number in range(5)]
        await until(lambda: probe.running == 5, "five handlers")
        await server.stop(grace=5)
        assert await asyncio.gather(*calls) == [0, 1, 2, 3, 4]
        assert probe.cancelled == []

    async def test_what_has_not_begun_is_handed_to_another_server(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """After the grace period, and it runs there. Without `settles` no call hangs beyond its deadline."""
        leaving, staying = Probe(address), Probe(address)
        server = await rig.server(leaving.service, concurrency=1)
        client = await rig.client()
        calls = [
            asyncio.create_task(client.call(leaving.at("hold"), n, timeout=PATIENCE_S if capabilities.settles else 1))
            for n in range(5)
        ]
        await until(lambda: server.in_flight == 5, "five calls")
        await rig.second_server(staying.service)
        staying.gate.set()
        await server.stop(grace=0.05)
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert leaving.cancelled == [0]
        assert isinstance(ends[0], OutcomeUnknown)
        if capabilities.settles:
            assert ends[1:] == [1, 2, 3, 4]
            assert sorted(staying.began) == [1, 2, 3, 4]

    async def test_idempotent_work_is_handed_over_even_when_begun(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """It may run twice, so nobody need learn that its first server has stopped; unless nobody gives it back."""
        leaving, staying = Probe(address), Probe(address)
        server = await rig.server(leaving.service)
        client = await rig.client()
        call = asyncio.create_task(client.call(leaving.at("hold_again"), "again", timeout=2, idempotent=True))
        await until(lambda: leaving.began, "the handler")
        await rig.second_server(staying.service)
        staying.gate.set()
        await server.stop(grace=0.05)
        if capabilities.settles:
            assert await call == "again"
        elif capabilities.sessions:
            await asyncio.wait([call])
        else:
            with pytest.raises(OutcomeUnknown, match="the server is stopping"):
                await call

    async def test_a_dead_servers_idempotent_work_runs_elsewhere(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `redelivers`, and the caller notices nothing; otherwise its deadline tells."""
        dying, other = Probe(address), Probe(address)
        server = await rig.server(dying.service)
        client = await rig.client()
        timeout = PATIENCE_S if capabilities.redelivers else 0.5
        call = asyncio.create_task(client.call(dying.at("hold_again"), "again", timeout=timeout, idempotent=True))
        await until(lambda: dying.began, "the handler")
        await rig.second_server(other.service)
        other.gate.set()
        await kill(server)
        if capabilities.redelivers:
            assert await call == "again"
            return
        with pytest.raises(OutcomeUnknown):
            await call

    async def test_a_dead_servers_work_never_runs_twice(self, rig: Rig, address: str) -> None:
        """At most once: whoever gets it next does not run it, and its caller learns that it may have run."""
        dying, other = Probe(address), Probe(address)
        server = await rig.server(dying.service)
        client = await rig.client()
        call = asyncio.create_task(client.call(dying.at("hold"), "once", timeout=1))
        await until(lambda: dying.began, "the handler")
        await rig.second_server(other.service)
        other.gate.set()
        await kill(server)
        with pytest.raises(OutcomeUnknown):
            await call
        assert other.began == []


async def _cancelled_after(seconds: float, call: Awaitable[object]) -> object:
    """The result, or None when it did not come within `seconds` and the call was cancelled."""
    task = asyncio.ensure_future(call)
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()
