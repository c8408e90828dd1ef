"""`rpckit transports`, and the table of the README that it printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rpckit.cli.transports import PROMISES, markdown
from rpckit.transport import Capabilities

README = Path(__file__).parents[3] / "README.md"
Rpckit = Callable[..., Any]


def test_the_readme_shows_what_the_transports_promise() -> None:
    """Mended by `rpckit transports --markdown`."""
    shown = README.read_text().partition("<!-- promises -->\n")[2].partition("\n<!-- /promises -->")[0]
    assert shown == markdown()


def test_each_promise_is_shown() -> None:
    assert set(PROMISES) == set(Capabilities.__slots__) - {"name", "max_body"}


def test_the_command_prints_it(rpckit: Rpckit) -> None:
    assert rpckit("transports", "--markdown").out == markdown() + "\n"
    shown = rpckit("transports").out
    assert "redis+pubsub" in shown
    assert "✓" in shown
