"""Peers: in step with the sessions, hooks once and in order, and nobody harmed by what one of them raises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from rpckit import Client
from rpckit.call import CallOptions
from rpckit.errors import ConnectionLost, NotSent, UsageError
from rpckit.peer import Peer
from rpckit.peers import OnPeer, PeerBook, Peers, RemotePeer
from rpckit.transport import SessionInfo, Transport


@dataclass
class FakeSession:
    id: str
    name: str = ""
    dialect: str = "native"
    headers: Mapping[str, str] = field(default_factory=dict)
    rtt: float | None = None


class FakeTransport:
    """Sessions that come and go as a test says."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []
        self._tell: Callable[[SessionInfo, bool], None]

    def on_session(self, callback: Callable[[SessionInfo, bool], None]) -> None:
        self._tell = callback

    def end_session(self, session_id: str, reason: str = "") -> None:
        self.ended.append((session_id, reason))

    def join(self, id_: str, name: str = "") -> FakeSession:
        session = FakeSession(id_, name)
        self._tell(session, True)
        return session

    def leave(self, id_: str) -> None:
        self._tell(FakeSession(id_), False)


class FakeClient:
    """Remembers what it was asked to call; `errors` by session."""

    def __init__(self, transport: FakeTransport) -> None:
        self.transport = transport
        self.notified: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = []
        self.errors: dict[str, Exception] = {}

    async def notify_at(
        self, address: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions, to: str
    ) -> None:
        assert address == ""
        if to in self.errors:
            raise self.errors[to]
        self.notified.append((to, method, args, kwargs))

    def peer(self, session_id: str) -> Peer:
        return Peer(cast(Client, self), "", CallOptions(None), session_id)


class Bench:
    def __init__(self, on_connect: OnPeer | None = None, on_disconnect: OnPeer | None = None) -> None:
        self.transport = FakeTransport()
        self.client = FakeClient(self.transport)
        self.peers = Peers()
        self.book = PeerBook(
            self.peers, cast(Client, self.client), cast(Transport, self.transport), on_connect, on_disconnect
        )


async def settled() -> None:
    """Let every task run as far as it can."""
    for _ in range(6):
        await asyncio.sleep(0)


def told(log: list[str], what: str) -> Callable[[RemotePeer], Awaitable[None]]:
    async def hook(peer: RemotePeer) -> None:
        log.append(f"{what} {peer.id}")

    return hook


# --- who is there --------------------------------------------------------------------------------


async def test_peers_are_the_sessions_there_are() -> None:
    bench = Bench()
    bench.transport.join("1", "ann")
    bench.transport.join("2", "bob")
    assert (list(bench.peers), len(bench.peers), bench.peers["1"].name) == (["1", "2"], 2, "ann")
    bench.transport.leave("1")
    bench.transport.leave("never there")
    assert (list(bench.peers), "1" in bench.peers) == (["2"], False)
    with pytest.raises(KeyError):
        bench.peers["1"]


async def test_peers_may_leave_while_they_are_walked_through() -> None:
    bench = Bench()
    for id_ in "123":
        bench.transport.join(id_)
    for id_ in bench.peers:
        bench.transport.leave(id_)
    assert len(bench.peers) == 0


async def test_named_finds_all_of_a_name_as_it_is_now() -> None:
    bench = Bench()
    for id_, name in (("1", "ann"), ("2", "bob"), ("3", "ann"), ("4", "")):
        bench.transport.join(id_, name)
    assert [peer.id for peer in bench.peers.named("ann")] == ["1", "3"]
    bench.peers["4"].name = "ann"
    bench.peers["1"].name = "bob"
    assert [peer.id for peer in bench.peers.named("ann")] == ["3", "4"]
    assert bench.peers.named("nobody") == []


async def test_a_peer_shows_its_session() -> None:
    bench = Bench()
    session = bench.transport.join("1", "ann")
    peer = bench.peers["1"]
    assert (peer.dialect, peer.headers, peer.state, peer.rtt) == ("native", {}, {}, None)
    session.rtt = 0.5
    assert peer.rtt == 0.5
    assert isinstance(peer.other, Peer)
    assert repr(peer) == "<RemotePeer 'ann' 1>"


async def test_a_peer_has_a_state_of_its_own() -> None:
    bench = Bench()
    bench.transport.join("1")
    bench.transport.join("2")
    bench.peers["1"].state["room"] = "a"
    assert bench.peers["2"].state == {}


async def test_closing_a_peer_ends_its_session_with_a_reason() -> None:
    bench = Bench()
    bench.transport.join("1")
    bench.peers["1"].close("too loud")
    assert bench.transport.ended == [("1", "too loud")]


async def test_a_peer_is_notified_at_its_session() -> None:
    bench = Bench()
    bench.transport.join("1")
    await bench.peers["1"].notify("greet", 1, method="x")
    assert bench.client.notified == [("1", "greet", (1,), {"method": "x"})]


# --- broadcasts ----------------------------------------------------------------------------------


async def test_a_broadcast_tells_everyone_but_one_and_counts_them() -> None:
    bench = Bench()
    for id_ in "123":
        bench.transport.join(id_)
    assert await bench.peers.broadcast("news", 1, a=2) == 3
    assert bench.client.notified == [(id_, "news", (1,), {"a": 2}) for id_ in "123"]
    bench.client.notified.clear()
    assert await bench.peers.broadcast("news", but=bench.peers["2"]) == 2
    assert [to for to, *_ in bench.client.notified] == ["1", "3"]


@pytest.mark.parametrize("error", [NotSent("gone"), ConnectionLost("no receipt")])
async def test_a_broadcast_passes_over_who_left(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench = Bench()
    for id_ in "123":
        bench.transport.join(id_)
    bench.client.errors["2"] = error
    assert await bench.peers.broadcast("news") == 2
    assert [to for to, *_ in bench.client.notified] == ["1", "3"]
    assert "was not told of news" in caplog.text


async def test_what_nobody_could_be_told_is_raised() -> None:
    with pytest.raises(UsageError):
        await Bench().peers.broadcast("news", object())


async def test_a_peer_whose_dialect_cannot_carry_it_is_passed_over() -> None:
    bench = Bench()
    bench.transport.join("1")
    bench.transport.join("2")
    bench.client.errors["1"] = UsageError("by name only")
    assert await bench.peers.broadcast("news", 1) == 1


async def test_a_broadcast_to_nobody_tells_nobody() -> None:
    assert await Bench().peers.broadcast("news") == 0


# --- hooks ---------------------------------------------------------------------------------------


async def test_hooks_run_once_for_each_session_and_in_order(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    bench = Bench(told(log, "hello"), told(log, "bye"))
    bench.transport.join("1")
    await settled()
    assert log == ["hello 1"]
    bench.transport.leave("1")
    bench.transport.leave("1")
    await settled()
    assert log == ["hello 1", "bye 1"]
    bench.transport.join("2")
    bench.transport.leave("2")
    await settled()
    assert log[2:] == ["hello 2", "bye 2"], "gone before the first hook began"
    assert caplog.records == []


async def test_a_peer_is_there_when_its_hook_runs_and_gone_when_the_other_does() -> None:
    seen: list[bool] = []

    async def hook(peer: RemotePeer) -> None:
        seen.append(peer.id in bench.peers)

    bench = Bench(hook, hook)
    bench.transport.join("1")
    await settled()
    bench.transport.leave("1")
    await settled()
    assert seen == [True, False]


async def test_both_hooks_are_given_the_same_peer() -> None:
    given: list[RemotePeer] = []

    async def hook(peer: RemotePeer) -> None:
        given.append(peer)

    bench = Bench(hook, hook)
    bench.transport.join("1")
    bench.transport.leave("1")
    await settled()
    assert given[0] is given[1]


async def test_a_farewell_waits_for_the_greeting_and_for_no_other() -> None:
    log: list[str] = []
    go_on = asyncio.Event()

    async def slow(peer: RemotePeer) -> None:
        if peer.id == "slow":
            await go_on.wait()
        log.append(f"hello {peer.id}")

    bench = Bench(slow, told(log, "bye"))
    for id_ in ("slow", "quick"):
        bench.transport.join(id_)
        bench.transport.leave(id_)
    await settled()
    assert log == ["hello quick", "bye quick"]
    go_on.set()
    await settled()
    assert log[2:] == ["hello slow", "bye slow"]


@pytest.mark.parametrize("hooks", [(True, False), (False, True), (False, False)])
async def test_either_hook_may_be_left_out(hooks: tuple[bool, bool]) -> None:
    log: list[str] = []
    bench = Bench(told(log, "hello") if hooks[0] else None, told(log, "bye") if hooks[1] else None)
    bench.transport.join("1")
    bench.transport.leave("1")
    await settled()
    assert log == ["hello 1"] * hooks[0] + ["bye 1"] * hooks[1]


async def test_a_hook_that_raises_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []

    async def bad(peer: RemotePeer) -> None:
        if peer.id == "1":
            raise KeyError("inside")
        log.append(f"hello {peer.id}")

    bench = Bench(bad, told(log, "bye"))
    for id_ in "12":
        bench.transport.join(id_)
    bench.transport.leave("1")
    await settled()
    assert sorted(log) == ["bye 1", "hello 2"]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert (record.getMessage(), record.exc_info[0]) == ("on_connect failed for <RemotePeer '' 1>", KeyError)
    assert list(bench.peers) == ["2"]


async def test_hooks_end_with_their_book() -> None:
    cancelled: list[str] = []

    async def stuck(peer: RemotePeer) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(peer.id)
            raise

    bench = Bench(stuck, stuck)
    for id_ in "12":
        bench.transport.join(id_)
    bench.transport.leave("2")
    await settled()
    await bench.book.close()
    assert sorted(cancelled) == ["1", "2"], "and the farewell that waited never began"


async def test_what_cannot_be_a_method_is_not_notified() -> None:
    bench = Bench()
    bench.transport.join("1")
    with pytest.raises(UsageError, match="cannot be a method's name"):
        await bench.peers["1"].notify("no.method")
    assert bench.client.notified == []
