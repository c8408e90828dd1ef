"""`rpckit services`, `describe`, `stats` and `ping`: what they show of the answers they get, and what of none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from rpckit import Client, RemoteError, Service
from rpckit.cli.asking import nobody, where
from rpckit.cli.instances import _table as services_table
from rpckit.cli.ping import _span
from rpckit.cli.signatures import described
from rpckit.cli.stats import Rates, stats_table
from rpckit.queries import Answer, Instance
from rpckit.schema import contract_of

Rpckit = Callable[..., Any]
NARROW = 80  # columns


class Color(StrEnum):
    red = "red"


@dataclass
class Item:
    name: str
    price: Decimal
    color: Color = Color.red


class OutOfStock(RemoteError):
    """There is none left."""


def shop() -> Service:
    service = Service("shop", address="orders", version="1.2", doc="Sells things.")

    @service.method(raises=[OutOfStock], idempotent=True)
    async def place(item: Item, /, count: int = 1, *, when: datetime | None = None, data: bytes = b"") -> UUID | None:
        """Order something.

        And more of it.
        """

    @service.method(deprecated="use place", timeout=3)
    async def old(a, b: dict[str, int], c: tuple[int, str], d: set[int]) -> list[Item]: ...  # as people write it

    @service.on("user.created", group="mail")
    async def welcome(user: int) -> None: ...

    return service


def entry(method: str = "place", calls: int = 0, **fields: Any) -> dict[str, Any]:
    times = {"wait_ms": {"p50": 0.04, "p99": 12.3}, "run_ms": {"p50": 1.0, "p99": 250.4}}
    named = {"service": "shop", "address": "orders", "method": method}
    return {**named, "calls": calls, "errors": {}, "in_flight": 0, **times, **fields}


def stats_of(id_: str, *entries: dict[str, Any], pid: int = 7) -> Answer:
    return Answer(Instance(id_, "web-1", pid), {"stats": list(entries)}, 0.001)


def info_of(id_: str, pid: int, **fields: Any) -> Answer:
    service = {"name": "shop", "version": "1.2", "address": "orders", "methods": ["place"], "events": [], **fields}
    return Answer(Instance(id_, "web-1", pid), {"services": [{"fingerprint": "f", **service}]}, 0.001)


def printed(renderable: object) -> str:
    console = Console(width=NARROW, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    assert all(len(line) <= NARROW for line in capture.get().splitlines())
    return capture.get()


# -- nobody -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("describe", "x"), ("ping", "x"), ("ping",), ("stats", "x")], ids=" ".join)
def test_nobody_is_exit_code_3_and_says_what_to_look_at(rpckit: Rpckit, words: tuple[str, ...]) -> None:
    ran = rpckit(*words, "--url", "memory://nobody", "--wait", "0.02")
    assert (ran.code, ran.out) == (3, "")
    assert "obody" in ran.err
    assert "within 0.02 s" in ran.err
    assert "discovery = false" in ran.err


def test_one_server_says_no_at_once_and_no_time_is_told() -> None:
    said = str(nobody(Client("ws://localhost"), "shop", 3.0))
    assert said.startswith("nobody who serves 'shop' answered on ws://localhost. ")
    assert said.endswith(" `rpckit services` lists what runs.")
    assert "answered on memory://x within 3 s. " in str(nobody(Client("memory://x"), "", 3.0))


@pytest.mark.parametrize("command", ["services", "stats"])
def test_nothing_that_runs_is_no_failure(rpckit: Rpckit, command: str) -> None:
    ran = rpckit(command, "--url", "memory://nobody", "--wait", "0.02")
    assert (ran.code, ran.out) == (0, "")
    assert "Nobody answered" in ran.err
    assert rpckit(command, "--url", "memory://nobody", "--wait", "0.02", "--json").out == "[]\n"


def test_what_cannot_be_an_address_is_a_usage_error(rpckit: Rpckit) -> None:
    assert rpckit("describe", "no such*", "--url", "memory://nobody").code == 2


# -- tables -----------------------------------------------------------------------------------------


def test_instances_of_one_contract_share_a_row_and_another_contract_has_its_own() -> None:
    shown = printed(services_table([info_of("a", 1), info_of("b", 2), info_of("c", 3, fingerprint="g", methods=["p"])]))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if "web-1" in line]
    assert [row[2] for row in rows] == ["web-1:3", "web-1:1", "web-1:2"]
    assert shown.count("at orders") == 2


def test_an_instance_is_told_from_its_twin_by_its_id() -> None:
    one, twin, other = Instance("aaaa1", "h", 1), Instance("bbbb2", "h", 1), Instance("cccc3", "h", 2)
    assert [where(each, [one, twin, other]) for each in (one, twin, other)] == ["h:1 #aaaa", "h:1 #bbbb", "h:2"]


def test_stats_fit_a_narrow_terminal_with_long_names_and_many_errors() -> None:
    errors = {"FAILED_PRECONDITION": 12_345, "RESOURCE_EXHAUSTED": 3}
    long = entry("recalculate_everything_for_the_year", 12_345_678, errors=errors, in_flight=100, per_second=12_345.6)
    shown = printed(stats_table([stats_of("a", long, entry("", 1), entry("hear", event="news"))], watching=True))
    for word in ("12,345,678", "12,346", "failed", "0.0/12", "1.0/250", "web-1:7", "unknown", "shop on"):
        assert word in shown


def test_calls_of_what_is_not_there_are_counted_in_whole_words() -> None:
    unknown = entry("", 1, errors={"UNIMPLEMENTED": 1}, per_second=1.0, address="")
    times = {"run_ms": {"p50": 1000, "p99": 1500}}
    shown = printed(stats_table([stats_of("a", unknown, entry("menu", 3_795, **times))], watching=True))
    assert "\n (unknown)" in shown  # of an address that nobody here serves
    assert all(word in shown.split() for word in ("1", "no", "such", "method"))


def test_a_rate_is_what_was_counted_between_two_looks() -> None:
    rates = Rates()
    looks = [(10, 0.0), (60, 2.0), (5, 3.0)]
    seen = []
    for calls, at in looks:
        answers = [stats_of("a" if calls != 5 else "b", entry(calls=calls))]
        rates.add(answers, at)
        seen.append(answers[0].content["stats"][0]["per_second"])
    assert seen == [None, 25.0, None]  # of another instance nothing is known yet


@pytest.mark.parametrize(
    "seconds,said", [(0, "0 s"), (59.4, "59 s"), (61, "1 min"), (3_700, "1 h 1 min"), (90_000, "1 d 1 h")]
)
def test_a_span_is_said_in_two_units_at_most(seconds: float, said: str) -> None:
    assert _span(seconds) == said


# -- signatures -------------------------------------------------------------------------------------


def test_a_contract_reads_like_python() -> None:
    lines = list(described(contract_of(shop())))
    assert lines[:2] == ["shop at orders, version 1.2", "    Sells things."]
    for line in (
        'place(item: Item, /, count: int = 1, *, when: datetime | None = None, data: bytes = b"") -> UUID | None',
        "    And more of it.",
        "    - idempotent",
        "    - raises OutOfStock",
        "old(a: Any, b: dict[str, int], c: tuple[int, str], d: set[int]) -> list[Item]",
        "    - runs for 3 s at most",
        "    - deprecated: use place",
        "on user.created(user: int) in the group mail",
        "type Item",
        "    price: Decimal",
        "    color: Color = Color.red",
        'type Color = Literal["red"]',
        "error OutOfStock (UNKNOWN)",
        "    There is none left.",
    ):
        assert line in lines


def test_methods_without_parameters_and_types_say_so() -> None:
    service = Service("bare")

    @service.method
    async def nothing(): ...  # as people write it

    assert "nothing() -> Any" in list(described(contract_of(service)))
