"""Calls through a transport: results, errors and headers, as a user sees them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from rpckit.contract import Service
from rpckit.errors import (
    ConnectionLost,
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NoResponder,
    NotSent,
    PermissionDenied,
    RemoteCancelled,
    RpcError,
    UnencodableResult,
    UsageError,
)
from rpckit.testing.conformance._probe import Probe
from rpckit.testing.conformance._rig import AT_ONCE_S, PATIENCE_S, Rig, RigFixtures, median_time, quiet, until
from rpckit.transport import Capabilities

__all__ = ["Absence", "Errors", "Results"]

ERRORS: dict[str, tuple[str, tuple[Any, ...], type[RpcError]]] = {
    "unknown method": ("no_such_method", (), MethodNotFound),
    "bad argument": ("add", ("one",), InvalidArgument),
    "raising handler": ("boom", (), InternalError),
    "refusing handler": ("refuse", (), PermissionDenied),
    "handler that gives up": ("give_up", (), RemoteCancelled),
    "result that cannot be encoded": ("unencodable", (), UnencodableResult),
}
OVER_A_MIB = 1_048_577  # bytes; one more than max_body, unless it is set


class Errors(RigFixtures):
    @pytest.mark.parametrize("method, arguments, expected", ERRORS.values(), ids=ERRORS)
    async def test_a_failing_call_ends_with_its_own_error_at_once(
        self, rig: Rig, address: str, method: str, arguments: tuple[Any, ...], expected: type[RpcError]
    ) -> None:
        """Errors are replies, each of a class of its own, within 50 ms."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        await client.call(probe.at("echo"), 1)

        async def attempt() -> None:
            with pytest.raises(expected) as raised:
                await client.call(probe.at(method), *arguments)
            assert type(raised.value) is expected
            assert "a secret" not in str(raised.value)

        assert await median_time(attempt) < AT_ONCE_S

    async def test_a_deadline_is_kept(self, rig: Rig, address: str) -> None:
        """Neither early nor more than 50 ms late, and it stops the handler."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        await client.call(probe.at("echo"), 1)

        async def attempt() -> None:
            with pytest.raises(DeadlineExceeded):
                await client.call(probe.at("hold"), timeout=0.2)

        assert 0.19 < await median_time(attempt, tries=3) < 0.2 + AT_ONCE_S
        await until(lambda: len(probe.cancelled) == 3, "the end of three handlers")

    async def test_arguments_that_cannot_be_sent_are_the_callers_mistake(self, rig: Rig, address: str) -> None:
        """`UsageError`, and the next call is as good as ever."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        for arguments, headers in (((object(),), {}), ((bytes(OVER_A_MIB),), {}), ((1,), {"x": 1})):
            with pytest.raises(UsageError):
                await client.call(probe.at("echo"), *arguments, headers=headers)  # type: ignore[arg-type]
        assert await client.call(probe.at("echo"), 1) == 1
        assert client.pending == 0

    async def test_headers_that_cannot_be_sent_are_the_callers_mistake(self, rig: Rig, address: str) -> None:
        """Or they arrive; nobody else's call is harmed."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        waiting = asyncio.create_task(client.call(probe.at("hold"), 1))
        await until(lambda: probe.began, "the other call")
        try:
            await client.call(probe.at("tell"), headers={"x": "x" * 1_000_000})
        except UsageError:
            assert client.pending == 1
        probe.gate.set()
        assert await waiting == 1

    async def test_bodies_over_the_limit_are_refused_on_both_sides(self, rig: Rig, address: str) -> None:
        """What the server takes no more of is `InvalidArgument`, a result too large `UnencodableResult`."""
        probe = Probe(address)
        await rig.server(probe.service, max_body=10_000)
        client = await rig.client()
        with pytest.raises(InvalidArgument):
            await client.call(probe.at("echo"), bytes(10_000))
        with pytest.raises(UnencodableResult):
            await client.call(probe.at("burden"), 10_000)

    async def test_a_circle_of_calls_ends(self, rig: Rig, address: str) -> None:
        """The depth travels with the call, and 32 is the limit."""
        probe = Probe(address)
        await rig.server(probe.service)
        probe.nested = await rig.client()
        with pytest.raises(InternalError, match="nested 32 deep"):
            await probe.nested.call(probe.at("descend"), 50)

    async def test_closing_a_client_ends_its_calls(self, rig: Rig, address: str) -> None:
        """At once, with `ConnectionLost`: they may have run."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        calls = [asyncio.create_task(client.call(probe.at("hold"), number)) for number in range(3)]
        await until(lambda: len(probe.began) == 3, "three calls")
        await client.close()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [ConnectionLost] * 3


class Absence(RigFixtures):
    async def test_nobody_serves_is_known_at_once(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """`NoResponder` within 50 ms; a transport that cannot know lets the deadline tell."""
        client = await rig.client()
        expected = NoResponder if capabilities.knows_no_responder else DeadlineExceeded

        async def attempt() -> None:
            with pytest.raises(expected):
                await client.call(f"{address}.echo", 1, timeout=0.5)

        took = await median_time(attempt, tries=3)
        assert took < AT_ONCE_S or not capabilities.knows_no_responder
        assert client.pending == 0

    async def test_nobody_serves_after_the_server_has_stopped(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """Also when a queue has outlived it: at once for a new client, after a second for an old one."""
        probe = Probe(address)
        server = await rig.server(probe.service)
        old = await rig.client()
        await old.call(probe.at("echo"), 1)
        await server.stop()
        if not capabilities.knows_no_responder:
            with pytest.raises(DeadlineExceeded):
                await old.call(probe.at("echo"), 1, timeout=0.2)
            return
        if capabilities.sessions:  # there is nobody to connect to
            with pytest.raises(NotSent):
                await old.call(probe.at("echo"), 1, timeout=0.5)
            return
        new = await rig.client()
        with pytest.raises(NoResponder):
            await new.call(probe.at("echo"), 1)
        await asyncio.sleep(1.1)
        with pytest.raises(NoResponder):
            await old.call(probe.at("echo"), 1)

    async def test_a_call_may_wait_for_its_server(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """`no_server="wait"`, if `queue_wait`; asking for it is a `UsageError` otherwise."""
        client, probe = await rig.client(), Probe(address)
        if not capabilities.queue_wait:
            with pytest.raises(UsageError, match="no_server"):
                await client.call(probe.at("echo"), 1, no_server="wait")
            return
        call = asyncio.create_task(client.call(probe.at("echo"), "hello", no_server="wait"))
        await quiet()
        assert not call.done()
        await rig.server(probe.service)
        assert await call == "hello"

    async def test_what_expired_in_the_queue_does_not_run(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """The deadline counts the time before the server came, if a call may wait at all."""
        client, probe = await rig.client(), Probe(address)
        expected = DeadlineExceeded if capabilities.queue_wait else UsageError
        with pytest.raises(expected):
            await client.call(probe.at("note"), "late", no_server="wait", timeout=0.1)
        await asyncio.sleep(0.1)
        await rig.server(probe.service)
        await quiet()
        assert probe.began == []

    async def test_a_notification_to_nobody_is_an_error(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        client = await rig.client()
        if capabilities.knows_no_responder:
            with pytest.raises(NoResponder):
                await client.notify(f"{address}.note", 1)
        else:
            await client.notify(f"{address}.note", 1)

    async def test_at_least_once_is_given_or_refused(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """A method that demands what the transport cannot give is refused at start-up, with its name."""
        service = Service("demanding", address=address)
        service.method(idempotent=True, delivery="at_least_once")(_nothing)
        if capabilities.redelivers:
            await rig.server(service)
            return
        with pytest.raises(UsageError, match="at_least_once"):
            await rig.server(service)


class Results(RigFixtures):
    async def test_a_call_returns_its_result(self, rig: Rig, address: str) -> None:
        """By position, by name, with defaults, and to the default method."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        assert await client.call(probe.at("add"), 2, 3) == 5
        assert await client.call(probe.at("add"), a=2) == 3
        assert await client.at(address).call("default") == "default"

    async def test_a_plain_function_runs_in_a_thread(self, rig: Rig, address: str) -> None:
        """It blocks nobody: two at once take the time of one, and async ones run meanwhile."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        naps = [asyncio.create_task(client.call(probe.at("nap_in_thread"), 0.3)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await client.call(probe.at("echo"), 1) == 1
        assert not any(nap.done() for nap in naps)
        threads = set(await asyncio.gather(*naps))
        assert len(threads) == 2
        assert threading.get_ident() not in threads

    async def test_a_handler_knows_its_call(self, rig: Rig, address: str) -> None:
        """Headers, attempt, depth, time left, and who called."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        told = await client.call(probe.at("tell"), timeout=5, headers={"user": "Grüße ✓"})
        assert told["headers"] == {"user": "Grüße ✓"}
        assert (told["attempt"], told["depth"]) == (1, 0)
        assert 0 < told["time_left"] <= 5
        assert told["caller"]
        assert (await client.call(probe.at("tell"), timeout=None))["time_left"] is None

    async def test_the_raw_form_carries_body_headers_and_correlation_id(self, rig: Rig, address: str) -> None:
        """`request`: the body is the argument, and a `Response` brings headers and an id of its own."""
        service = Service("raw", address=address)
        service.method(Probe(address).respond)
        await rig.server(service)
        client = await rig.client()
        reply = await client.request(address, b"hi \xff!", headers={"x-token": "t"})
        assert (reply.body, reply.correlation_id) == (b"HI \xff!", "its own")
        assert reply.headers["x-token"] == "t"
        text = await client.request(address, "Hi!", timeout=3.0)
        assert text.decode() == "HI!"

    async def test_a_raw_request_gets_a_raw_error(self, rig: Rig, address: str) -> None:
        """A fault in the raw form is still the error that it was."""
        service = Service("raw", address=address)
        service.method(Probe(address).add)
        await rig.server(service)
        client = await rig.client()
        assert (await client.request(address, {"a": 1, "b": 2})).decode() == 3
        with pytest.raises(InvalidArgument):
            await client.request(address, {"a": "one"})

    async def test_a_notification_runs_and_nobody_waits(self, rig: Rig, address: str) -> None:
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        await client.notify(probe.at("note"), "a")
        await client.notify(probe.at("hold"), "b")
        await until(lambda: sorted(probe.began) == ["a", "b"], "both notifications")
        assert client.pending == 0

    async def test_a_method_without_reply_never_answers(self, rig: Rig, address: str) -> None:
        """`no_reply=True`: it runs, and who waits all the same waits for the deadline."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        with pytest.raises(DeadlineExceeded):
            await client.call(probe.at("note"), 1, timeout=0.2)
        assert probe.began == [1]

    async def test_two_thousand_calls_at_once_get_their_own_replies(self, rig: Rig, address: str) -> None:
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        async with asyncio.timeout(2 * PATIENCE_S):
            results = await asyncio.gather(*(client.call(probe.at("echo"), n) for n in range(2000)))
        assert results == list(range(2000))
        assert (client.pending, client.late_replies) == (0, 0)

    async def test_large_values_go_there_and_back(self, rig: Rig, address: str) -> None:
        """Just under the limit of 1 MiB, both ways, ten at once."""
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        value = bytes(1_000_000)
        results = await asyncio.gather(*(client.call(probe.at("echo"), value) for _ in range(10)))
        assert all(result == value for result in results)


async def _nothing() -> None:
    pass
