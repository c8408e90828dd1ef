"""`rpckit transports`, and the table of the README that it printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rpckit.cli.transports import PROMISES, markdown
from rpckit.transport import Capabilities

README = Path(__file__).parents[3] / "README.md"
Rpckit = Callable[..., Any]


def test_the_readme_shows_what_the_transports_promise() -> None:
    """Mended by `rpckit transports --markdown`."""
    shown = README.read_text().partition("<!-- promises -->\n")[2].partition("\n<!-- /promises -->")[0]
    assert shown == markdown()


def test_each_promise_is_shown() -> None:
    assert set(PROMISES) == set(Capabilities.__slots__) - {"name", "max_body", "takes_begun"}


def test_the_command_prints_it(rpckit: Rpckit) -> None:
    assert rpckit("transports", "--markdown").out == markdown() + "\n"


def test_the_table_is_readable_in_80_columns(rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = rpckit("transports").out
    assert "…" not in shown
    assert " what a dead server left goes   ✓      ✓       ✓       ✓       -         -" in shown


# --- a swap ------------------------------------------------------------------------------------

SHOP = """
from rpckit import Service

shop = Service("shop")

@shop.method(idempotent=True, delivery="at_least_once")
async def pay(n: int) -> int: ...

@shop.method(idempotent=True)
async def price(n: int) -> int: ...

@shop.method
async def place(n: int) -> int: ...

@shop.on("news", group="mail")
async def news() -> None: ...
"""


@pytest.fixture
def shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (folder / "swapped_for_test.py").write_text(SHOP)
    yield "swapped_for_test:shop"
    sys.modules.pop("swapped_for_test", None)


@pytest.fixture
def plain(shop: str, folder: Path) -> str:
    """A service without idempotent methods, in the same module."""
    with (folder / "swapped_for_test.py").open("a") as module:
        module.write("plain = Service('plain')\nplain.method(place)\n")
    return "swapped_for_test:plain"


def test_a_swap_tells_what_is_lost_and_gained(rpckit: Rpckit) -> None:
    ran = rpckit("transports", "--compare", "amqp", "ws")
    assert ran.code == 0
    assert "amqp → websocket" in ran.out
    assert "lost: what a dead server left goes to another one" in ran.out
    assert "lost: bodies of more than" in ran.out
    assert "gained: no broker: clients dial the server" in ran.out
    assert "nobody serves is told at once" not in ran.out  # the same on both


def test_a_swap_to_the_same_changes_nothing(rpckit: Rpckit) -> None:
    assert rpckit("transports", "--compare", "amqp", "amqps").out.split() == (
        ["amqp", "→", "amqp", "lost:", "nothing", "gained:", "nothing"]
    )


def test_methods_and_events_that_cannot_be_served_are_all_named_and_the_exit_code_is_1(
    rpckit: Rpckit, shop: str
) -> None:
    ran = rpckit("transports", "--compare", "amqp", "websocket", "--service", shop)
    assert ran.code == 1
    assert 'cannot be served: shop.pay demands delivery="at_least_once", which websocket cannot give' in ran.out
    assert "cannot be served: shop hears 'news' in the group 'mail', which websocket cannot give" in ran.out
    assert "warning: shop.price is idempotent, and no longer redelivered" in ran.out
    assert "shop.place" not in ran.out


def test_a_service_whose_requests_are_popped_is_warned_of_it(rpckit: Rpckit, plain: str) -> None:
    ran = rpckit("transports", "--compare", "redis+stream", "redis+list", "--service", plain)
    assert "warning: plain: requests that a killed server has popped and not begun are lost" in ran.out
    assert "warning" not in rpckit("transports", "--compare", "redis+list", "redis+stream", "--service", plain).out


def test_a_service_that_can_be_served_there_is_exit_code_0(rpckit: Rpckit, shop: str) -> None:
    ran = rpckit("transports", "--compare", "amqp", "redis+stream", "--service", shop)
    assert ran.code == 0
    assert "can be served on redis+stream" in ran.out
    assert "warning" not in ran.out


@pytest.mark.parametrize(
    "words,said",
    [
        (("--compare", "amqp", "nosuch"), "no transport for nosuch://"),
        (("--compare", "amqp", "ws", "--service", "nosuch:service"), "there is no module 'nosuch'"),
        (("--service", "shop:service"), "--service goes with --compare"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_compared_is_a_usage_error(rpckit: Rpckit, words: tuple[str, ...], said: str) -> None:
    ran = rpckit("transports", *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
