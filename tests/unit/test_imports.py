"""What starts quickly stays quick: modules that take long are imported by whoever needs them, and not before."""

from __future__ import annotations

import subprocess
import sys
from types import FunctionType

import pytest
from pydantic import BaseModel

import rpckit
from rpckit import options, settings, transport

ModelMetaclass = type(BaseModel)
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


def test_every_public_name_is_there() -> None:
    assert {type(getattr(rpckit, name)) for name in rpckit.__all__} <= {type, ModelMetaclass, FunctionType}
    assert not [name for name in rpckit.__all__ if getattr(rpckit, name).__name__ != name]


def test_the_help_of_the_command_line_imports_nothing_that_only_commands_need() -> None:
    code = "import sys\nfrom rpckit.cli.app import app\ntry: app(['--help'])\nexcept SystemExit: pass"
    assert modules_after(code) & (HEAVY | {"rich.progress", "pydantic", "asyncio", "rpckit.client"}) == set()


def test_settings_and_options_come_when_they_are_asked_for() -> None:
    assert transport.TransportOptions is options.TransportOptions
    assert (rpckit.Settings, rpckit.load_settings) == (settings.Settings, settings.load_settings)
    with pytest.raises(AttributeError, match="no attribute 'setings'"):
        rpckit.setings  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Options'"):
        transport.Options  # type: ignore[attr-defined]  # noqa: B018
