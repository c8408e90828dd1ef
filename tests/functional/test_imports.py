"""What starts quickly stays quick: modules that take long are imported by whoever needs them, and not before."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIST_MODULES = "import sys; print(*sys.modules)"
DRIVERS = {"aioamqp", "redis", "websockets", "fastapi", "uvloop", "watchfiles"}
OURS = {"rpckit.options", "rpckit.settings", "rpckit.testing", "rpckit.demo"}
HEAVY = DRIVERS | OURS | {"pydantic_settings", "tenacity", "importlib.metadata"}


def modules_after(code: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{LIST_MODULES}"], capture_output=True, text=True, check=True, timeout=30
    )
    return set(ran.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code", ["import rpckit", "from rpckit import BlockingClient, Client, Server, Service, TypedClient"]
)
def test_importing_rpckit_imports_nothing_that_takes_long(code: str) -> None:
    assert modules_after(code) & (HEAVY | {"typer", "rich"}) == set()


def test_the_errors_come_without_the_client() -> None:
    assert modules_after("from rpckit import DeadlineExceeded, RemoteError") & {"pydantic", "rpckit.client"} == set()


def test_the_help_of_the_command_line_imports_nothing_that_only_commands_need() -> None:
    code = "import sys\nfrom rpckit.cli.app import app\ntry: app(['--help'])\nexcept SystemExit: pass"
    assert modules_after(code) & (HEAVY | {"rich.progress", "pydantic", "asyncio", "rpckit.client"}) == set()
