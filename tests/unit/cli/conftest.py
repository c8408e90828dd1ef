"""The command line in this process, in an empty folder and with no settings around."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.main import get_command

from rpckit.cli.app import app
from rpckit.settings import BY_HAND


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Rpckit = Callable[..., Ran]
_command = get_command(app)  # what `app()` makes anew for each call


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty working directory of a test."""
    for variable in [name for name in os.environ if name.startswith("RPCKIT_")]:
        monkeypatch.delenv(variable)
    for variable in ("RPCKIT_PROFILE", BY_HAND):
        monkeypatch.setenv(variable, "")  # says nothing; what --profile sets is undone with it
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rpckit(capsys: pytest.CaptureFixture[str]) -> Rpckit:
    """Run `rpckit` with the given words."""

    def run(*words: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            _command(list(words), prog_name="rpckit")
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return run
