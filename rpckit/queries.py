"""What every instance answers about itself: PING, INFO, STATS and SCHEMA. Pure.

Where a broker stands between, a query is a request published on one topic for all, and each instance
that has something to say sends a reply to the asker's inbox. On a session it is a call to `rpc.<query>`.

    query    answers {"instance": {…}} and
    ping     nothing more
    info     "services": name, version, address, methods, events, fingerprint of each
    stats    "stats": an entry for each method; see `rpckit.stats`
    schema   "contracts": the contract documents; see `rpckit.schema`
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rpckit import codec
from rpckit.contract import Service
from rpckit.discovery import ADDRESS as SESSION_ADDRESS
from rpckit.discovery import discovery
from rpckit.ids import new_id
from rpckit.message import Kind, Message
from rpckit.schema import contract_of

__all__ = ["SESSION_ADDRESS", "TOPIC", "Answer", "Instance", "Query", "as_answer", "query_service", "read_answer"]

TOPIC = "rpckit.discover"  # where queries are published; events of users have a prefix of their own

Query = Literal["ping", "info", "stats", "schema"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One running server, among others of the same services.

    id:      random, new with each start.   started: unix time in seconds.
    rpckit:  its version.                   transports: those it serves on, by name.
    """

    id: str
    host: str = ""
    pid: int = 0
    started: float = 0.0
    rpckit: str = ""
    transports: list[str] = field(default_factory=list)

    @classmethod
    def here(cls, transports: list[str]) -> Instance:
        """This process, from now on; `transports` may still grow."""
        return cls(new_id(), platform.node(), os.getpid(), round(time.time(), 3), _version(), transports)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one instance said.

    content: as it came, "instance" among it.   seconds: from the question to this answer.
    """

    instance: Instance
    content: dict[str, Any]
    seconds: float


def query_service(
    services: Sequence[Service], instance: Instance, stats: Callable[[str], list[dict[str, Any]]]
) -> Service:
    """The service whose methods are the queries, and on a session `discover`.

    stats: what STATS answers for an address, "" for all. A query about an address that is not here has no answer.
    """
    service = discovery([each for each in services if each.methods])

    def about(address: str) -> list[Service]:
        return [each for each in services if not address or (each.methods and each.address == address)]

    def said(address: str, **content: Any) -> dict[str, Any] | None:
        return {"instance": asdict(instance), **content} if about(address) or not address else None

    @service.method
    async def ping(address: str = "") -> dict[str, Any] | None:
        """Who is there."""
        return said(address)

    @service.method
    async def info(address: str = "") -> dict[str, Any] | None:
        """What is served: services, versions, methods."""
        return said(address, services=[_info(each) for each in about(address)])

    @service.method(name="stats")
    async def answer_stats(address: str = "") -> dict[str, Any] | None:
        """What was called, how it failed, and how long it took."""
        return said(address, stats=stats(address))

    @service.method
    async def schema(address: str = "") -> dict[str, Any] | None:
        """The contracts."""
        return said(address, contracts=[contract_of(each) for each in about(address) if each.methods])

    return service


def read_answer(message: Message, seconds: float) -> Answer | None:
    """The answer in a reply; None where there is none in it. Raises `CodecError`."""
    value = codec.decode(message.content_type, message.body) if message.kind is Kind.REPLY else None
    return as_answer(value, seconds)


def as_answer(value: Any, seconds: float) -> Answer | None:
    """What an instance said, if it is that; an instance of a later version may say more."""
    try:
        said = _Said.model_validate(value)
    except ValidationError:
        return None
    return Answer(Instance(**said.instance.model_dump()), value, seconds)


class _Part(BaseModel):
    """A part of an answer, as far as anything here reads it: whoever has the broker can send one."""

    model_config = ConfigDict(strict=True, defer_build=True)


class _SaidInstance(_Part):
    id: str
    host: str = ""
    pid: int = 0
    started: float = 0.0
    rpckit: str = ""
    transports: list[str] = []


class _SaidService(_Part):
    name: str
    version: str
    address: str
    methods: list[str]
    events: list[str]
    fingerprint: str


class _SaidTimes(_Part):
    p50: float
    p99: float


class _SaidStats(_Part):
    service: str
    address: str
    method: str
    event: str = ""
    calls: int
    errors: dict[str, int]
    in_flight: int
    wait_ms: _SaidTimes | None
    run_ms: _SaidTimes | None


class _Said(_Part):
    instance: _SaidInstance
    services: list[_SaidService] = []
    stats: list[_SaidStats] = []
    contracts: list[dict[str, Any]] = []


def _info(service: Service) -> dict[str, Any]:
    return {
        "name": service.name,
        "version": service.version,
        "address": service.address,
        "methods": list(service.methods),
        "events": [event.topic for event in service.events],
        "fingerprint": contract_of(service)["fingerprint"],
    }


@cache
def _version() -> str:
    """Of what is installed; empty where it is not."""
    from importlib import metadata  # with all of the email package behind it

    try:
        return metadata.version("rpckit")
    except metadata.PackageNotFoundError:
        return ""
