"""`--profile`: on every command that has `--url`, and what completes it and other words in a shell."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from rpckit import load_settings
from rpckit.cli.app import COMMANDS, app
from rpckit.cli.options import choose_profile, profiles_there
from rpckit.cli.services import references_there
from rpckit.settings import BY_HAND, where_said

Rpckit = Callable[..., Any]
PROFILES = """
[profiles.staging]
url = "memory://staging"
[profiles.standby]
url = "memory://standby"
[profiles.live]
url = "memory://live"
"""


@pytest.fixture
def profiles(folder: Path) -> Path:
    (folder / "rpckit.toml").write_text(PROFILES)
    return folder


def test_every_command_that_takes_a_url_takes_a_profile() -> None:
    group = typer.main.get_group(app)
    options = {
        name: {option for parameter in group.get_command(None, name).params for option in parameter.opts}  # type: ignore[arg-type, union-attr]
        for name in COMMANDS
    }
    assert {name for name, known in options.items() if "--url" in known and "--profile" not in known} == set()
    assert "--profile" in options["serve"]


def test_a_profile_chosen_holds_for_this_process_and_those_it_starts(profiles: Path) -> None:
    choose_profile("staging")
    assert load_settings().url == "memory://staging"
    assert os.environ["RPCKIT_PROFILE"] == "staging"


def test_a_profile_asked_for_by_hand_is_stronger_than_variables(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But only where it says something."""
    (profiles / "rpckit.toml").write_text(PROFILES + "[profiles.live.amqp]\nheartbeat = 3\n")
    for name, value in {"URL": "memory://variable", "AMQP_HEARTBEAT": "9", "TIMEOUT": "7"}.items():
        monkeypatch.setenv(f"RPCKIT_{name}", value)
    choose_profile("live")
    loaded = load_settings()
    assert (loaded.url, loaded.transports["amqp"], loaded.timeout) == ("memory://live", {"heartbeat": 3}, 7.0)


def test_a_profile_chosen_by_hand_was_said_in_the_arguments(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose_profile("staging")
    assert where_said()["profile"] == "the arguments"
    monkeypatch.setenv(BY_HAND, "")
    assert where_said()["profile"] == "the environment"


@pytest.mark.parametrize("option", ["--profile", "-p"])
def test_a_call_goes_where_the_profile_points(rpckit: Rpckit, profiles: Path, option: str) -> None:
    ran = rpckit("call", "nobody.here", option, "staging")
    assert ran.code == 3
    assert load_settings().profile == "staging"


def test_a_url_that_is_given_is_stronger_than_that_of_a_profile(rpckit: Rpckit, profiles: Path) -> None:
    ran = rpckit("call", "nobody.here", "--profile", "staging", "--url", "nosuch://x")
    assert "no transport for nosuch://" in ran.err


@pytest.mark.parametrize("command", [("call", "a.b"), ("request", "a", "b"), ("bench", "a.b"), ("demo",)])
def test_an_unknown_profile_lists_the_known_ones(rpckit: Rpckit, profiles: Path, command: tuple[str, ...]) -> None:
    ran = rpckit(*command, "--profile", "stagign")
    assert (ran.code, ran.out) == (2, "")
    assert "unknown profile 'stagign'. Known: live, staging, standby" in ran.err


# --- completion --------------------------------------------------------------------------------


@pytest.fixture
def complete(rpckit: Rpckit, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], set[str]]:
    """What bash is told for a line whose last word is to be completed."""

    def complete(line: str) -> set[str]:
        monkeypatch.setenv("_RPCKIT_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        return set(rpckit().out.split())

    return complete


def test_commands_are_completed(complete: Callable[[str], set[str]]) -> None:
    assert complete("rpckit se") >= {"serve", "settings"}
    assert "call" not in complete("rpckit se")


@pytest.mark.parametrize("command", ["serve shop:orders", "call a.b", "bench a.b", "demo"])
def test_profiles_are_completed(complete: Callable[[str], set[str]], profiles: Path, command: str) -> None:
    assert complete(f"rpckit {command} --profile sta") == {"staging", "standby"}


def test_services_are_completed_without_being_imported(complete: Callable[[str], set[str]], folder: Path) -> None:
    (folder / "shop").mkdir()
    (folder / "shop" / "orders.py").write_text('service = Service("orders")\n1 / 0\n')
    (folder / "stock.py").write_text('stock: Service = Service(\n  "stock")\nname = Service\n')
    assert complete("rpckit serve ") == {"shop.orders:service", "stock:stock"}
    for command in ("serve", "generate", "schema"):
        assert complete(f"rpckit {command} shop") == {"shop.orders:service"}


def test_files_that_cannot_be_read_complete_nothing(folder: Path) -> None:
    (folder / "rpckit.toml").write_text("[profiles\n")
    (folder / "odd.py").write_bytes(b"\xff = Service(")
    assert profiles_there("") == []
    assert references_there("") == []
