"""`rpckit settings`: what holds, where it was said, and the reference in the README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rpckit.cli.app import app
from rpckit.cli.reference import markdown

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> str:
    ran = CliRunner().invoke(app, ["settings", *words], env={"COLUMNS": "80"})
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_each_setting_is_shown_with_the_place_that_said_it(monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "rpckit.toml").write_text("timeout = 7\n[profiles.there]\ngrace = 3\n[amqp]\nheartbeat = 5\n")
    monkeypatch.setenv("RPCKIT_URL", "amqp://me:secret@rabbit")
    monkeypatch.setenv("RPCKIT_PROFILE", "there")
    rows = {line.split("│")[1].strip(): line for line in run().splitlines() if line.startswith("│")}
    assert "amqp://me:***@rabbit" in rows["url"]
    assert "the environment" in rows["url"]
    assert "7.0" in rows["timeout"]
    assert "rpckit.toml" in rows["timeout"]
    assert "[profiles.there]" in rows["grace"]
    assert "rpckit.toml" in rows["amqp.heartbeat"]
    assert "the defaults" in rows["max_body"]


def test_no_password_is_shown(monkeypatch: Any) -> None:
    monkeypatch.setenv("RPCKIT_REDIS_SENTINEL_PASSWORD", "secret")
    monkeypatch.setenv("RPCKIT_URL", "redis://me:secret@redis")
    shown = run() + run("--json")
    assert "secret" not in shown
    assert json.loads(run("--json"))["timeout"] == 30.0


def test_the_readme_has_the_reference() -> None:
    """Else: put what `rpckit settings --markdown` prints between its marks."""
    assert f"<!-- settings -->\n{markdown()}\n<!-- /settings -->" in README.read_text()
