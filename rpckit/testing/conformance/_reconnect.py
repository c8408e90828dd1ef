"""Connections that break and come back. For every transport that has one to lose."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import pytest

from rpckit.errors import ConnectionLost
from rpckit.message import Kind, Message
from rpckit.testing.conformance._events import Listener
from rpckit.testing.conformance._probe import Probe
from rpckit.testing.conformance._rig import AT_ONCE_S, Line, Rig, RigFixtures, until
from rpckit.transport import Capabilities, State, Transport, begins

__all__ = ["Reconnecting"]


class Reconnecting(RigFixtures):
    inbox_is_an_alias = False  # the broker knows each connection's inbox by one and the same public name

    async def cut(self, transport: Transport) -> None:
        """A hook: break the connection under `transport`, as a failing network would. It comes back."""
        raise NotImplementedError(f"{type(self).__name__} needs cut(transport), or must not claim to reconnect")

    async def test_the_loss_and_the_return_are_told(self, rig: Rig) -> None:
        """`reconnecting`, then `connected`, and the inbox is another one."""
        line = await rig.line()
        before = line.transport.inbox
        await self._cut(line)
        assert line.states[-1] is State.CONNECTED
        assert line.transport.inbox != ""
        assert line.transport.inbox != before or self.inbox_is_an_alias

    async def test_a_receiver_survives(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """It receives as before, without being asked again; so does a subscription, and the inbox."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await server.transport.subscribe(address, server.inbox.append)
        for line in (caller,) if capabilities.sessions else (server, caller):
            await self._cut(line)
        await caller.send(address, must_be_served=not capabilities.queue_wait)
        delivery = await received.first()
        delivery.reply(delivery.message.reply(Kind.REPLY, b"back"))
        await until(lambda: caller.inbox, "the reply")
        await caller.transport.publish(address, Message(Kind.EVENT))
        await until(lambda: server.inbox, "the event")

    async def test_what_was_unsettled_comes_again(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """Marked as redelivered, if `redelivers`; settling the lost delivery does nothing."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        lost = await received.first()
        await self._cut(caller if capabilities.sessions else server)
        lost.settle()
        if capabilities.redelivers:
            assert (await received.first(2)).redelivered

    @pytest.mark.parametrize("confirmed", [False, True])
    async def test_a_reply_outlives_the_servers_connection(
        self, rig: Rig, address: str, confirmed: bool, capabilities: Capabilities
    ) -> None:
        """Begun before the loss, answered during it: the reply arrives, and nothing is left to wait for.

        But where the connection is the session: there its caller has learnt of the loss, and hears no more of it.
        """
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        delivery = await received.first()
        await begins(delivery)
        await self.cut(caller.transport if capabilities.sessions else server.transport)
        delivery.reply(delivery.message.reply(Kind.REPLY, b"kept"), confirmed=confirmed)
        if capabilities.sessions:
            await until(lambda: caller.states[-1] is State.CONNECTED, "the connection")
        else:
            await until(lambda: caller.inbox, "the reply")
        assert [message.body for message in caller.inbox] == [b"kept"] * (not capabilities.sessions)
        began = time.monotonic()
        await server.transport.close()
        assert time.monotonic() - began < 20 * AT_ONCE_S

    async def test_calls_in_flight_fail_at_once(self, rig: Rig, address: str) -> None:
        """With `ConnectionLost`, since they may have run; the next call goes through by itself."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        call = asyncio.create_task(client.call(probe.at("hold"), 1))
        await until(lambda: probe.began, "the handler")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self.cut(client.transport)
        with pytest.raises(ConnectionLost):
            await call
        assert loop.time() - began < 10 * AT_ONCE_S
        assert await client.call(probe.at("echo"), "again") == "again"

    async def test_idempotent_calls_are_sent_again(self, rig: Rig, address: str) -> None:
        """The same message, the next attempt; the caller notices nothing."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        call = asyncio.create_task(client.call(probe.at("hold_again"), 1, idempotent=True))
        await until(lambda: probe.began, "the handler")
        await self.cut(client.transport)
        await until(lambda: len(probe.began) == 2, "the second attempt")
        probe.gate.set()
        assert await call == 1

    async def test_a_server_is_found_again_after_its_connection_broke(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """With its cancels, so that nothing is half back."""
        probe = Probe(address)
        server = await rig.server(probe.service)
        client = await rig.client()
        assert server._dispatcher is not None
        transport = client.transport if capabilities.sessions else server._dispatcher.links[0].transport
        states: list[State] = []
        transport.on_state(lambda state, why: states.append(state))
        await self.cut(transport)
        await until(lambda: states and states[-1] is State.CONNECTED, "the server's connection")
        call = asyncio.create_task(client.call(probe.at("hold"), 1, no_server=_patient(capabilities)))
        await until(lambda: probe.began, "the handler")
        call.cancel()
        await until(lambda: probe.cancelled, "the cancel")

    async def test_events_are_heard_again_after_the_connection_broke(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """With and without a group; what was emitted meanwhile may be lost."""
        listeners = [Listener(address)] + [Listener(address, "mail")] * capabilities.event_groups
        server = await rig.server(*(listener.service for listener in listeners))
        client = await rig.client()
        assert server._dispatcher is not None
        transport = client.transport if capabilities.sessions else server._dispatcher.links[0].transport
        states: list[State] = []
        transport.on_state(lambda state, why: states.append(state))
        await self.cut(transport)
        await until(lambda: states and states[-1] is State.CONNECTED, "the connection")
        for number in range(100):
            await client.emit(address, number)
            await asyncio.sleep(0.05)
            if all(listener.heard for listener in listeners):
                break
        for listener in listeners:
            assert listener.heard
            assert len(set(listener.heard)) == len(listener.heard)

    async def _cut(self, line: Line) -> None:
        """Cut, and wait until it is back."""
        count = len(line.states)
        await self.cut(line.transport)
        await until(lambda: State.RECONNECTING in line.states[count:], "the loss")
        await until(lambda: line.states[-1] is State.CONNECTED, "the connection")


def _patient(capabilities: Capabilities) -> Literal["fail", "wait"]:
    """A receiver may be back a moment later than its connection; who can wait for it does."""
    return "wait" if capabilities.queue_wait else "fail"
