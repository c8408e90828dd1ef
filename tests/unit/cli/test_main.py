"""The command itself: help, versions, and what it says without its extra."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from rpckit.cli import main
from rpckit.cli.app import COMMANDS

Rpckit = Callable[..., Any]


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_it_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == ('rpckit\'s command line needs typer and rich: pip install "rpckit[cli]"\n')


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_a_command_in_the_help_is_its_own(name: str) -> None:
    """It stands there twice, so that the help need not import what it describes."""
    function = getattr(import_module(f"rpckit.cli.{COMMANDS[name].module}"), name)
    assert COMMANDS[name].text == " ".join(inspect.getdoc(function).split("\n\n")[0].split())  # type: ignore[union-attr]


def test_help_lists_every_command(rpckit: Rpckit) -> None:
    ran = rpckit("--help")
    assert ran.code == 0
    assert all(f" {command} " in ran.out for command in COMMANDS)
    assert "5 not sent" in ran.out


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "version"])
def test_help_of_a_command_has_an_example(rpckit: Rpckit, command: str) -> None:
    ran = rpckit(command, "--help")
    assert ran.code == 0
    assert f"\n rpckit {command}" in ran.out


def test_version_names_what_a_bug_report_needs(rpckit: Rpckit) -> None:
    ran = rpckit("version")
    assert ran.out.startswith("rpckit ")
    assert "Python 3." in ran.out
    assert "memory://" in ran.out
    assert rpckit("--version").out == ran.out.splitlines()[0] + "\n"


def test_nosuch_service_ends_serve_with_code_2(rpckit: Rpckit) -> None:
    ran = rpckit("serve", "rpckit.demo.service", "--url", "memory://main")
    assert (ran.code, ran.out) == (2, "")
    assert "Services there: rpckit.demo.service:service" in ran.err


def test_bench_of_an_address_nobody_serves_ends_at_once(rpckit: Rpckit) -> None:
    ran = rpckit("bench", "rpc_queue.fib", "30", "--url", "memory://main")
    assert (ran.code, ran.out) == (3, "")
