"""The other sides of a transport's sessions: who is connected, what each can be asked, and who is told of it.

Invariant: `on_connect` and `on_disconnect` run once for each session, in that order, in tasks that end
with their book; what they raise is logged, and harms nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from rpckit.bodies import write_arguments
from rpckit.errors import RpcError
from rpckit.message import NATIVE
from rpckit.transport import SessionInfo, Sessions, Transport

if TYPE_CHECKING:
    from rpckit.client import Client
    from rpckit.peer import Peer

__all__ = ["OnPeer", "PeerBook", "Peers", "RemotePeer"]

log = logging.getLogger(__name__)

ENDING_S = 2.0  # seconds for hooks that still run when everything ends


class RemotePeer:
    """One connected peer.

    id:      of its session; another one after it has connected again.
    name:    what it calls itself; yours to set, for peers that do not say.
    headers: of its opening request, names in lower case, such as a token.
    state:   yours: what you want to remember of it while it is connected.
    """

    def __init__(self, caller: Client, session: SessionInfo) -> None:
        self.id = session.id
        self.name = session.name
        self.headers = session.headers
        self.dialect = session.dialect
        self.state: dict[str, Any] = {}
        self._caller = caller
        self._session = session

    @property
    def other(self) -> Peer:
        """Its methods: ``await peer.other.greet("hello")``."""
        return self._caller.peer(self.id)

    @property
    def rtt(self) -> float | None:
        """Seconds to it and back, measured by the last heartbeat; None before the first."""
        return self._session.rtt

    async def discover(self) -> dict[str, Any]:
        """What it offers: an OpenRPC document, with names, types and docs."""
        return await self._caller.discover(self.id)

    async def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Call its method without waiting for anything: returns when written."""
        await self.other.notify(method, *args, **kwargs)

    def close(self, reason: str = "") -> None:
        """End its session in good order."""
        cast(Sessions, self._caller.transport).end_session(self.id, reason)

    def __repr__(self) -> str:
        return f"<RemotePeer {self.name!r} {self.id}>"


OnPeer = Callable[[RemotePeer], Awaitable[None]]


class Peers(Mapping[str, RemotePeer]):
    """Connected peers, by id."""

    def __init__(self) -> None:
        self._peers: dict[str, RemotePeer] = {}

    def __getitem__(self, session_id: str) -> RemotePeer:
        return self._peers[session_id]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._peers))

    def __len__(self) -> int:
        return len(self._peers)

    def __repr__(self) -> str:
        return f"<Peers {list(self._peers.values())}>"

    def named(self, name: str) -> list[RemotePeer]:
        """Those that go by a name; more than one may."""
        return [peer for peer in self._peers.values() if peer.name == name]

    async def broadcast(self, method: str, /, *args: Any, but: RemotePeer | None = None, **kwargs: Any) -> int:
        """Notify everyone, but for `but`; how many were told.

        A peer that left, is too slow, or whose dialect cannot carry the arguments is passed over. Raises `UsageError`
        for arguments that nothing can carry.
        """
        write_arguments(NATIVE, "", args, kwargs)
        peers = [peer for peer in self._peers.values() if peer is not but]
        return sum(await asyncio.gather(*(_told(peer, method, args, kwargs) for peer in peers)))

    def add(self, peer: RemotePeer) -> None:
        self._peers[peer.id] = peer

    def discard(self, session_id: str) -> RemotePeer | None:
        return self._peers.pop(session_id, None)


class PeerBook:
    """Keeps `peers` in step with a transport's sessions, and runs the hooks."""

    def __init__(
        self,
        peers: Peers,
        caller: Client,
        transport: Transport,
        on_connect: OnPeer | None,
        on_disconnect: OnPeer | None,
    ) -> None:
        self.peers = peers
        self._caller = caller
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._greeting: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        cast(Sessions, transport).on_session(self._changed)

    async def close(self) -> None:
        """Once the sessions are gone: what the hooks have begun may end, for a while."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ENDING_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _changed(self, session: SessionInfo, joined: bool) -> None:
        if joined:
            peer = RemotePeer(self._caller, session)
            self.peers.add(peer)
            if self._on_connect is not None:
                self._greeting[peer.id] = self._own(_hook("on_connect", self._on_connect, peer))
            return
        gone = self.peers.discard(session.id)
        greeting = self._greeting.pop(session.id, None)
        if gone is not None and self._on_disconnect is not None:
            self._own(_farewell(greeting, self._on_disconnect, gone))

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _told(peer: RemotePeer, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        await peer.notify(method, *args, **kwargs)
    except RpcError as error:
        log.info("%r was not told of %s: %s", peer, method, error)
        return False
    return True


async def _farewell(greeting: asyncio.Task[None] | None, hook: OnPeer, peer: RemotePeer) -> None:
    if greeting is not None:
        await asyncio.wait([greeting])
    await _hook("on_disconnect", hook, peer)


async def _hook(name: str, hook: OnPeer, peer: RemotePeer) -> None:
    try:
        await hook(peer)
    except RpcError as error:  # it left meanwhile, or has no such method
        log.warning("%s of %r: %s", name, peer, error)
    except Exception:  # a hook of the user's: logged with its cause
        log.exception("%s failed for %r", name, peer)
