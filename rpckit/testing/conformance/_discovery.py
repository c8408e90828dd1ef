"""Discovery: every server says who it is, what it serves and how it does, and nobody else is needed for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from rpckit.client import Client
from rpckit.contract import Service
from rpckit.errors import InternalError, InvalidArgument, MethodNotFound, NotSent
from rpckit.queries import Answer
from rpckit.server import Server
from rpckit.testing.conformance._rig import PATIENCE_S, Rig, RigFixtures, kill, until
from rpckit.transport import Capabilities

__all__ = ["Discovering"]

SEEN_S = 0.3  # seconds in which every instance is seen
TRIES = 3  # a busy machine may need more than one

Found = Callable[[list[Answer]], bool]


class Discovering(RigFixtures):
    async def test_every_instance_is_seen_at_once(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """Two servers of two services each, within 0.3 s; on sessions the one there is. Each says what it serves."""
        services = [_service(address, version="1.2"), _service(rig.address())]
        await rig.server(*services)
        await rig.second_server(*services)
        client = await rig.client()
        expected = 1 if capabilities.sessions else 2
        answers = await _soon(client, "info", "", lambda answers: len(_serving(answers, services)) == expected)
        for answer in _serving(answers, services):
            assert answer.seconds < SEEN_S
            assert answer.instance.transports == [capabilities.name]
            (first,) = (each for each in answer.content["services"] if each["address"] == address)
            assert (first["name"], first["version"], first["methods"]) == (address, "1.2", ["work", "wait"])
            assert first["fingerprint"]

    async def test_only_who_serves_an_address_answers_for_it(self, rig: Rig, address: str) -> None:
        await rig.server(_service(address))
        client = await rig.client()
        for query in ("ping", "info", "stats", "schema"):
            (answer,) = await _soon(client, query, address, bool)
            assert answer.instance.id
            assert await client.survey(query, rig.address(), wait=0.05) == []

    async def test_a_contract_is_given_as_soon_as_one_instance_answers(self, rig: Rig, address: str) -> None:
        service = _service(address)
        await rig.server(service)
        client = await rig.client()
        async with asyncio.timeout(PATIENCE_S):
            (answer, *_) = await client.survey("schema", address, wait=60, first=True)
        (contract,) = answer.content["contracts"]
        assert contract["service"] == address
        assert contract["methods"]["work"]["parameters"][0]["schema"] == {"type": "integer"}

    async def test_calls_errors_and_times_are_counted(self, rig: Rig, address: str) -> None:
        """Those of both instances together: a broker may share them as it likes."""
        service = _service(address)
        await rig.server(service)
        await rig.second_server(service)
        client = await rig.client()
        for _ in range(7):
            await client.call(f"{address}.work", 1)
        for error, target, value in (
            (InternalError, "work", 13),
            (InvalidArgument, "work", "no number"),
            (MethodNotFound, "nosuch", 1),
        ):
            with pytest.raises(error):
                await client.call(f"{address}.{target}", value)
        answers = await _soon(client, "stats", address, lambda answers: _total(answers, "work", "calls") == 9)
        assert _errors(answers, "work") == {"INTERNAL": 1, "INVALID_ARGUMENT": 1}
        assert _errors(answers, "") == {"UNIMPLEMENTED": 1}
        assert _total(answers, "wait", "calls") == _total(answers, "work", "in_flight") == 0
        times = next(entry for entry in _entries(answers, "work") if entry["calls"])
        assert 0 <= times["wait_ms"]["p50"] <= times["wait_ms"]["p99"]
        assert 0 <= times["run_ms"]["p50"] <= times["run_ms"]["p99"]

    async def test_an_overloaded_server_still_answers(self, rig: Rig, address: str) -> None:
        """And says how many calls it has in flight."""
        service, release = Service(address), asyncio.Event()

        @service.method(idempotent=True)  # else a server may take no more than can run
        async def hold() -> None:
            await release.wait()

        await rig.server(service, concurrency=1)
        client = await rig.client()
        calls = [asyncio.create_task(client.call(f"{address}.hold")) for _ in range(5)]
        try:
            await _soon(client, "stats", address, lambda answers: _total(answers, "hold", "in_flight") == 5)
        finally:
            release.set()
            await asyncio.gather(*calls)
        await _soon(client, "stats", address, lambda answers: _total(answers, "hold", "calls") == 5)

    @pytest.mark.parametrize("end", ["stopped", "killed"])
    async def test_an_instance_that_is_gone_disappears(self, rig: Rig, address: str, end: str) -> None:
        service = _service(address)
        first = await rig.server(service)
        second = await rig.second_server(service)
        client = await rig.client()
        both = 1 if second is None else 2
        await _soon(client, "ping", address, lambda answers: len(answers) == both)
        if second is None:
            return  # with the one instance the session ends
        await (kill(second) if end == "killed" else second.stop())
        await _soon(client, "ping", address, lambda answers: [each.instance for each in answers] == [_identity(first)])

    async def test_a_setting_switches_it_off(self, rig: Rig, address: str) -> None:
        """Calls are served as ever."""
        await rig.server(_service(address), discovery=False)
        client = await rig.client()
        assert await client.call(f"{address}.work", 2) == 2
        assert await client.survey("info", address, wait=0.1) == []
        await until(lambda: client.pending == 0)


def _service(address: str, version: str = "") -> Service:
    service = Service(address, version=version)

    @service.method
    async def work(n: int) -> int:
        if n == 13:
            raise ValueError(n)
        return n

    @service.method
    async def wait() -> None: ...

    return service


async def _soon(client: Client, query: Any, address: str, found: Found) -> list[Answer]:
    """What is found in answers collected for 0.3 s, at one of a few tries."""
    last: object = None
    for _ in range(TRIES):
        try:
            answers = await client.survey(query, address, wait=SEEN_S)
        except NotSent as error:  # a busy broker did not take the question in that time
            last = error
            continue
        if found(answers):
            return answers
        last = [answer.content for answer in answers]
    return pytest.fail(f"not what was expected of {query}: {last}")


def _serving(answers: list[Answer], services: list[Service]) -> list[Answer]:
    """On a broker that others use as well, only ours."""
    ours = {service.address for service in services}
    return [answer for answer in answers if ours <= {each["address"] for each in answer.content["services"]}]


def _identity(server: Server) -> Any:
    assert server._answerer is not None  # discovery is on
    return server._answerer.instance


def _entries(answers: list[Answer], method: str) -> list[dict[str, Any]]:
    return [entry for answer in answers for entry in answer.content["stats"] if entry["method"] == method]


def _total(answers: list[Answer], method: str, what: str) -> int:
    return sum(entry[what] for entry in _entries(answers, method))


def _errors(answers: list[Answer], method: str) -> dict[str, int]:
    counted: dict[str, int] = {}
    for entry in _entries(answers, method):
        for code, count in entry["errors"].items():
            counted[code] = counted.get(code, 0) + count
    return counted
