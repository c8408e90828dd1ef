"""The seam, second half: what is handed to a server, until it is settled."""

from __future__ import annotations

import pytest

from rpckit.message import Kind
from rpckit.testing.conformance._rig import Rig, RigFixtures, quiet, until
from rpckit.transport import Capabilities, begins

__all__ = ["Deliveries", "Losses", "Receivers"]


class Receivers(RigFixtures):
    async def test_prefetch_bounds_what_is_unsettled(self, rig: Rig, address: str) -> None:
        """Three of ten, and one more for each that is settled."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address, prefetch=3)
        for _ in range(10):
            await caller.send(address)
        await received.first(3)
        await quiet()
        assert len(received) == 3
        received.all[0].settle()
        await received.first(4)
        await quiet()
        assert len(received) == 4

    async def test_a_reply_makes_room_too(self, rig: Rig, address: str) -> None:
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address, prefetch=1)
        for _ in range(3):
            await caller.send(address)
        for count in (1, 2, 3):
            delivery = await received.first(count)
            delivery.reply(delivery.message.reply(Kind.REPLY, b""))
        await until(lambda: len(caller.inbox) == 3, "three replies")

    async def test_prefetch_can_be_raised(self, rig: Rig, address: str) -> None:
        """`set_prefetch`: at least as many from now on."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address, prefetch=2)
        for _ in range(10):
            await caller.send(address)
        await received.first(2)
        received.receiver.set_prefetch(7)
        await received.first(7)

    async def test_a_paused_receiver_gets_nothing_until_it_resumes(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """What was delivered stays: it can be answered meanwhile."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address, b"before")
        delivery = await received.first()
        received.receiver.pause()
        await quiet()
        delivery.reply(delivery.message.reply(Kind.REPLY, b""))
        await until(lambda: caller.inbox, "the reply")
        await caller.send(address, b"meanwhile", must_be_served=not capabilities.queue_wait)
        await quiet()
        assert received.bodies == [b"before"]
        received.receiver.resume()
        await received.first(2)
        assert received.bodies == [b"before", b"meanwhile"]

    async def test_prefetch_set_while_paused_holds_after_resuming(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """And does not end the pause."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address, prefetch=2)
        received.receiver.pause()
        await quiet()
        received.receiver.set_prefetch(6)
        for _ in range(10):
            await caller.send(address, must_be_served=not capabilities.queue_wait)
        await quiet()
        assert len(received) == 0
        received.receiver.resume()
        await received.first(6)

    async def test_what_was_delivered_can_be_settled_after_stop(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """A stopping server still answers what it has; answered, it never comes back."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        delivery = await received.first()
        await received.receiver.stop()
        delivery.reply(delivery.message.reply(Kind.REPLY, b"late, not lost"))
        await until(lambda: caller.inbox, "the reply")
        await server.transport.close()
        other = await rig.serving()
        received = await other.receive(address)
        await quiet()
        assert len(received) == 0

    async def test_nothing_is_delivered_after_stop(self, rig: Rig, address: str) -> None:
        """For good: not even what was on its way."""
        server, other, caller = await rig.serving(), await rig.second(), await rig.line()
        if other is None:
            return
        stopped, serving = await server.receive(address), await other.receive(address)
        for _ in range(10):
            await caller.send(address)
        await stopped.receiver.stop()
        count = len(stopped)
        for _ in range(10):
            await caller.send(address)
        await until(lambda: len(serving) >= 10, "everything at the other server")
        await quiet()
        assert len(stopped) == count

    async def test_servers_of_one_address_share_its_work(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `balances`, each gets some. Either way a request is begun once at most, if `claims`."""
        one, other, caller = await rig.serving(), await rig.second(), await rig.line()
        if other is None:
            return
        at_one, at_other = await one.receive(address), await other.receive(address)
        for number in range(20):  # one at a time: a burst may all go to whoever is ready first
            await caller.send(address, b"%d" % number)
            await until(lambda: len({*at_one.bodies, *at_other.bodies}) > number, "the request, somewhere")  # noqa: B023
        if capabilities.balances:
            assert min(len(at_one), len(at_other)) > 0
            assert len(at_one) + len(at_other) == 20
        begun = [delivery.message.body for delivery in at_one.all + at_other.all if await begins(delivery)]
        if capabilities.claims or capabilities.balances:
            assert len(begun) == len(set(begun))


class Deliveries(RigFixtures):
    async def test_a_first_delivery_may_begin(self, rig: Rig, address: str) -> None:
        """It is not marked as redelivered, and nobody else has it."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        delivery = await received.first()
        assert not delivery.redelivered
        assert await begins(delivery)

    @pytest.mark.parametrize("confirmed", [False, True])
    async def test_settled_means_over(self, rig: Rig, address: str, confirmed: bool) -> None:
        """Neither settled nor answered deliveries ever come back, however safe the reply was to be."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address, b"settled")
        await caller.send(address, b"answered")
        (await received.first(1)).settle()
        delivery = await received.first(2)
        delivery.reply(delivery.message.reply(Kind.REPLY, b""), confirmed=confirmed)
        await until(lambda: caller.inbox, "the reply")
        await server.transport.close()
        other = await rig.serving()
        received = await other.receive(address)
        await quiet()
        assert len(received) == 0

    async def test_handed_back_it_goes_to_another_server_as_if_never_delivered(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """Whole, and not marked as redelivered. Without `settles` it may be lost, and never comes back."""
        server, caller, other = await rig.serving(), await rig.line(), await rig.second()
        if other is None:
            return
        received = await server.receive(address)
        body = b"b" * 300_000
        sent = await caller.send(address, body, method="fib", time_left_ms=30_000, headers={"user": "7"}, attempt=2)
        delivery = await received.first()
        at_other = await other.receive(address)
        await received.receiver.stop()
        delivery.hand_back()
        if not capabilities.settles:
            await quiet()
            assert len(received) == 1
            return
        again = await at_other.first()
        assert not again.redelivered
        assert again.message.reply_to == delivery.message.reply_to
        for name in ("method", "message_id", "correlation_id", "attempt", "headers", "body"):
            assert getattr(again.message, name) == getattr(sent, name), name
        assert await begins(again)
        again.reply(again.message.reply(Kind.REPLY, b"done"))
        await until(lambda: caller.inbox, "the reply")

    async def test_handed_back_it_waits_for_a_server_to_come(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `settles` and `queue_wait`: the last server has gone, the next one finds the work."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        delivery = await received.first()
        await received.receiver.stop()
        delivery.hand_back()
        await server.transport.close()
        other = await rig.serving()
        received = await other.receive(address)
        if capabilities.settles and capabilities.queue_wait:
            assert not (await received.first()).redelivered
        else:
            await quiet()
            assert len(received) == 0

    async def test_rejected_it_is_never_delivered_again(self, rig: Rig, address: str) -> None:
        """To nobody here; it makes room for the next one."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address, prefetch=1)
        await caller.send(address, b"poison")
        await caller.send(address, b"food")
        (await received.first(1)).reject()
        await received.first(2)
        await received.receiver.stop()
        received.all[1].settle()
        await server.transport.close()
        other = await rig.serving()
        again = await other.receive(address)
        await quiet()
        assert (received.bodies, again.bodies) == ([b"poison", b"food"], [])

    async def test_a_reply_to_a_caller_that_left_is_told(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `knows_caller_gone`, by `on_gone`; either way the delivery is settled and nothing breaks."""
        server, caller, witness = await rig.serving(), await rig.line(), await rig.line()
        received = await server.receive(address, prefetch=1)
        await caller.send(address)
        delivery = await received.first()
        await caller.transport.close()
        delivery.reply(delivery.message.reply(Kind.REPLY, b""))
        if capabilities.knows_caller_gone:
            await until(lambda: server.gone, "on_gone")
            assert server.gone == [delivery.message.reply_to]
        await witness.send(address, b"the next one")
        await received.first(2)


class Losses(RigFixtures):
    async def test_what_a_closed_transport_left_goes_to_another(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `redelivers`: to another server, and marked so; otherwise it is lost, as declared."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        sent = [await caller.send(address, b"%d" % number) for number in range(3)]
        await received.first(3)
        await server.transport.close()
        other = await rig.serving()
        again = await other.receive(address)
        if not capabilities.redelivers:
            await quiet()
            assert len(again) == 0
            return
        await again.first(3)
        assert all(delivery.redelivered for delivery in again.all)
        assert again.bodies == [message.body for message in sent]

    async def test_what_was_delivered_before_stop_is_not_lost_by_close(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """Stopped, then closed with work unsettled: the work goes back all the same, if `redelivers`."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        await received.first()
        await received.receiver.stop()
        await server.transport.close()
        other = await rig.serving()
        again = await other.receive(address)
        if capabilities.redelivers:
            assert (await again.first()).redelivered
        else:
            await quiet()
            assert len(again) == 0

    async def test_of_two_claims_one_wins(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """If `claims`: begun once, a request is nobody else's, whatever becomes of its server."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        delivery = await received.first()
        assert await begins(delivery)
        await server.transport.close()
        other = await rig.serving()
        again = await other.receive(address)
        await quiet()
        begun = [each for each in again.all if await begins(each)]
        if capabilities.claims:
            assert begun == []
        else:
            assert all(each.redelivered for each in begun)

    async def test_a_claim_on_what_somebody_else_has_fails(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `claims` and `redelivers`: whoever lost a delivery is told so before starting."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        delivery = await received.first()
        await server.transport.close()
        other = await rig.serving()
        again = await other.receive(address)
        if not capabilities.redelivers:
            await quiet()
            assert len(again) == 0
            return
        assert await begins(await again.first())
        if capabilities.claims:
            assert not await begins(delivery)

    async def test_what_is_begun_again_is_not_claimed(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """If `redelivers`: the next server has it all the same; where it `claims`, the last one learns that."""
        caller = await rig.line()
        lost = None
        for delivered in range(3):
            server = await rig.serving()
            received = await server.receive(address)
            if delivered == 0:
                await caller.send(address)
            delivery = await received.first()
            assert delivery.redelivered == (delivered > 0)
            assert await begins(delivery, again=True)
            if capabilities.claims and lost is not None:
                assert not await begins(lost, again=True)
            lost = delivery
            await server.transport.close()
            if not capabilities.redelivers:
                return
