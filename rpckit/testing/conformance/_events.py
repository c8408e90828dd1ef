"""Events: what a service hears and a client emits, at most once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rpckit.context import Context
from rpckit.contract import Service
from rpckit.errors import NotSent, UsageError
from rpckit.testing.conformance._probe import Probe
from rpckit.testing.conformance._rig import PATIENCE_S, Rig, RigFixtures, quiet, until
from rpckit.topics import matches
from rpckit.transport import Capabilities

__all__ = ["Emitting", "Listener"]

PATTERNS = ("*", "#", "*.b", "a.*", "a.#", "#.b", "a.#.b", "*.*", "#.#", "a.*.#")
TOPICS = ("a", "b", "a.b", "a.a.b", "a.a.a.b", "ab.b", "a.bb", "b.a")
MANY = 40  # events: enough that two who share them both have some, or both have all


class Listener:
    """A service that only hears, and remembers what."""

    def __init__(self, topic: str, group: str = "") -> None:
        self.heard: list[Any] = []
        self.service = Service("listener")
        self.service.on(topic, group=group)(self.hear)

    async def hear(self, event: Any) -> None:
        if event == "trouble":
            raise ValueError("a handler that raises")
        self.heard.append(event)


class Emitting(RigFixtures):
    async def test_everyone_hears_an_event(self, rig: Rig, address: str) -> None:
        """Every handler of its topic, in every server; two in one server are two."""
        one, other, third = Listener(address), Listener(address), Listener(address)
        await rig.server(one.service, third.service)
        second = await rig.second_server(other.service)
        listeners = [one, third] if second is None else [one, other, third]
        client = await rig.client()
        for number in range(MANY):
            await client.emit(address, number)
        await until(lambda: all(len(listener.heard) == MANY for listener in listeners), "every event, to everyone")
        await quiet()
        for listener in listeners:
            assert sorted(listener.heard) == list(range(MANY))

    async def test_servers_and_handlers_tell_too(self, rig: Rig, address: str) -> None:
        """A server on its transports, a handler on the one its call came by."""
        listener, teller = Listener(address), rig.address()
        service = Service(teller)

        @service.method
        async def tell(value: int, context: Context) -> None:
            await context.emit(address, value)

        server = await rig.server(listener.service, service)
        client = await rig.client()
        await client.call(f"{teller}.tell", 1)
        await server.emit(address, 2)
        await until(lambda: sorted(listener.heard) == [1, 2], "both events")

    async def test_an_event_has_arguments_and_headers_as_a_call_does(self, rig: Rig, address: str) -> None:
        """By position and by name, converted as the handler's annotations say."""
        service, heard = Service(address), list[tuple[int, str, dict[str, str]]]()

        @service.on(address)
        async def hear(number: int, name: str = "none", *, ctx: Context) -> None:
            heard.append((number, name, dict(ctx.headers)))

        await rig.server(service)
        client = await rig.client()
        await client.emit(address, "1", headers={"x-user": "7"})
        await client.emit(address, name="two", number=2)
        await until(lambda: len(heard) == 2, "both events")
        assert sorted(heard, key=lambda event: event[0]) == [(1, "none", {"x-user": "7"}), (2, "two", {})]

    async def test_one_of_each_group_hears_an_event(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """If `event_groups`: one member of each group, across servers; who is in no group hears it as well."""
        if not capabilities.event_groups:
            return
        mail, other_mail = Listener(address, "mail"), Listener(address, "mail")
        billing, everything = Listener(address, "billing"), Listener(address)
        await rig.server(mail.service, billing.service, everything.service)
        await rig.second_server(other_mail.service)
        client = await rig.client()
        for number in range(MANY):
            await client.emit(address, number)
        await until(lambda: len(everything.heard) == len(billing.heard) == MANY, "every event")
        await until(lambda: len(mail.heard) + len(other_mail.heard) >= MANY, "every event, to one of the group")
        await quiet()
        assert sorted(mail.heard + other_mail.heard) == list(range(MANY))
        assert sorted(billing.heard) == sorted(everything.heard) == list(range(MANY))

    async def test_a_group_goes_on_without_a_member_that_is_stopping(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `event_groups` and there can be two servers: one that drains has no share any more."""
        if not capabilities.event_groups:
            return
        leaving, staying = Listener(address, "mail"), Listener(address, "mail")
        probe = Probe(rig.address())
        server = await rig.server(leaving.service, probe.service)
        if await rig.second_server(staying.service) is None:
            return
        client = await rig.client()
        call = asyncio.create_task(client.call(probe.at("hold"), "still running"))
        await until(lambda: probe.began, "the call")
        stopping = asyncio.create_task(server.stop(grace=PATIENCE_S))
        await quiet()
        for number in range(MANY):
            await client.emit(address, number)
        await until(lambda: len(staying.heard) == MANY, "every event, to the one that stays")
        assert not stopping.done()
        probe.gate.set()
        assert await call == "still running"
        await stopping
        assert leaving.heard == []

    async def test_a_group_is_refused_where_there_are_none(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """Unless `event_groups`: at start-up, with a sentence that names the topic."""
        if capabilities.event_groups:
            return
        with pytest.raises(UsageError, match=f"hears '{address}' in the group 'mail'"):
            await rig.server(Listener(address, "mail").service)

    async def test_a_name_is_not_heard_by_its_beginning(self, rig: Rig, address: str) -> None:
        """Nor by the beginning of a word."""
        listeners = {topic: Listener(topic) for topic in (address, f"{address}.a.b")}
        await rig.server(*(listener.service for listener in listeners.values()))
        client = await rig.client()
        for topic in (*listeners, f"{address}.a", f"{address}.a.b.c", f"{address}.a.bc"):
            await client.emit(topic, topic)
        await until(lambda: all(listener.heard for listener in listeners.values()), "an event for each")
        await quiet()
        for topic, listener in listeners.items():
            assert listener.heard == [topic]

    async def test_a_pattern_hears_every_topic_it_matches(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `event_patterns`: `*` is one word and `#` any number, none included; the handler is told the topic."""
        if not capabilities.event_patterns:
            return
        service, heard = Service(address), dict[str, list[str]]()
        for pattern in PATTERNS:
            service.on(f"{address}.{pattern}")(_note_topics(heard.setdefault(pattern, []), address))
        await rig.server(service)
        client = await rig.client()
        for topic in TOPICS:
            await client.emit(f"{address}.{topic}")
        await client.emit(address)
        expected = {
            pattern: sorted(topic for topic in ("", *TOPICS) if matches(f"x.{pattern}", f"x.{topic}".strip(".")))
            for pattern in PATTERNS
        }
        await until(lambda: sum(map(len, heard.values())) >= sum(map(len, expected.values())), "every event")
        await quiet()
        assert {pattern: sorted(topics) for pattern, topics in heard.items()} == expected

    async def test_one_of_each_group_hears_what_a_pattern_matches(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `event_patterns` and `event_groups`: a group on a pattern shares; on another pattern it is another one."""
        if not (capabilities.event_patterns and capabilities.event_groups):
            return
        pattern, other_pattern = f"{address}.*", f"{address}.#"
        mail, other_mail = Listener(pattern, "mail"), Listener(pattern, "mail")
        wider, named = Listener(other_pattern, "mail"), Listener(f"{address}.even", "mail")
        await rig.server(mail.service, wider.service, named.service)
        await rig.second_server(other_mail.service)
        client = await rig.client()
        for number in range(MANY):
            await client.emit(f"{address}.{'odd' if number % 2 else 'even'}", number)
        await until(lambda: len(mail.heard) + len(other_mail.heard) >= MANY, "every event, to one of the group")
        await until(lambda: len(wider.heard) == MANY, "every event, to the wider pattern")
        await until(lambda: len(named.heard) == MANY // 2, "every event, to the name")
        await quiet()
        assert sorted(mail.heard + other_mail.heard) == sorted(wider.heard) == list(range(MANY))
        assert sorted(named.heard) == list(range(0, MANY, 2))

    async def test_a_pattern_is_refused_where_there_are_none(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """Unless `event_patterns`: at start-up, with a sentence that names it. To tell one is refused everywhere."""
        client = await rig.client()
        with pytest.raises(UsageError, match="it is a pattern, for those who listen"):
            await client.emit(f"{address}.*")
        if not capabilities.event_patterns:
            with pytest.raises(UsageError, match=r"a pattern, which .* cannot give"):
                await rig.server(Listener(f"{address}.*").service)

    async def test_a_foreign_topic_is_refused_where_it_means_nothing(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """Unless it is among `foreign_topics`: in those who listen at start-up, in those who tell when they do."""
        topics = ("fanout:logs", "direct:logs/info", "topic:logs/kern.info", "channel:logs")
        refused = [topic for topic in topics if topic.partition(":")[0] not in capabilities.foreign_topics]
        client = await rig.client()
        for topic in refused:
            with pytest.raises(UsageError, match="what belongs to another broker"):
                await client.emit(topic)
        for topic in refused:
            with pytest.raises(UsageError, match="what belongs to another broker"):
                await rig.server(Listener(topic).service)

    async def test_a_handler_that_raises_harms_nobody(
        self, rig: Rig, address: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is logged once, with its cause, as what does not fit is; neither emitter nor the next event notices."""
        listener = Listener(address)
        await rig.server(listener.service)
        client = await rig.client()
        await client.emit(address, "trouble")
        await client.emit(address)  # arguments that do not fit
        await client.emit(address, "peace")
        await until(lambda: listener.heard, "the last event")
        await until(lambda: len(_failures(caplog)) == 2, "both reports")
        assert listener.heard == ["peace"]
        assert [type(record.exc_info[1]) for record in _failures(caplog) if record.exc_info] == [ValueError]
        assert any("which does not fit: " in record.getMessage() for record in _failures(caplog))

    async def test_emitting_to_nobody_is_no_error(self, rig: Rig, address: str) -> None:
        """And whoever listens later does not hear of it."""
        client = await rig.client()
        await client.emit(address, "nobody hears this")
        await quiet()
        listener = Listener(address)
        await rig.server(listener.service)
        await quiet()
        assert listener.heard == []

    async def test_a_server_that_stopped_hears_nothing(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """What it had heard by then was handled."""
        listener = Listener(address)
        server = await rig.server(listener.service)
        client = await rig.client(send_wait=0.2)
        await client.emit(address, "before")
        await until(lambda: listener.heard, "the first event")
        await server.stop(grace=1)
        if capabilities.sessions:  # without a server there is nobody to be connected to
            with pytest.raises(NotSent):
                await client.emit(address, "after")
        else:
            await client.emit(address, "after")
        await quiet()
        assert listener.heard == ["before"]


def _note_topics(heard: list[str], address: str) -> Callable[[Context], Awaitable[None]]:
    async def hear(context: Context) -> None:
        heard.append(context.topic.removeprefix(address).removeprefix("."))

    return hear


def _failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "failed to handle an event" in record.getMessage()]
