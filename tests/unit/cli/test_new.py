"""`rpckit new`: what it writes, and what it refuses."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rpckit import load_settings
from rpckit.cli.new import check_project_name
from rpckit.cli.project import project_files

Rpckit = Callable[..., Any]


def test_it_writes_a_project_and_says_how_to_go_on(rpckit: Rpckit, folder: Path) -> None:
    ran = rpckit("new", "teashop")
    assert (ran.code, ran.err) == (0, "")
    assert "\n  cd teashop\n  rpckit serve teashop.service:service\n  rpckit call teashop.menu " in ran.out
    assert "\n  python -m pytest " in ran.out  # of this Python: another one's pytest would not find rpckit
    written = {path.relative_to(folder / "teashop").as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == set(project_files("teashop"))
    assert all(f"teashop/{path}\n" in ran.out for path in written)


def test_its_settings_are_valid_and_every_profile_has_a_url(
    rpckit: Rpckit, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpckit("new", "teashop")
    monkeypatch.chdir(folder / "teashop")
    assert load_settings().url == "ws://127.0.0.1:9000"
    assert load_settings(profile="rabbitmq").url.startswith("amqp://")
    assert load_settings(profile="redis").url.startswith("redis+stream://")


def test_its_pyproject_names_what_it_needs() -> None:
    project = tomllib.loads(project_files("teashop")["pyproject.toml"])
    assert project["project"]["name"] == "teashop"
    assert project["project"]["dependencies"] == ["rpckit[all]"]


def test_nothing_is_overwritten(rpckit: Rpckit, folder: Path) -> None:
    (folder / "teashop").mkdir()
    ran = rpckit("new", "teashop")
    assert (ran.code, ran.out) == (2, "")
    assert "teashop exists already, and nothing is overwritten" in ran.err
    assert list((folder / "teashop").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(
    rpckit: Rpckit, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    ran = rpckit("new", "teashop")
    assert ran.code == 2
    assert "pyproject.toml cannot be written: No space left on device" in " ".join(ran.err.split())


@pytest.mark.parametrize(
    "name,advice",
    [
        ("tea-shop", "'tea-shop' cannot be the name of a package: try tea_shop"),
        ("tea shop", "try tea_shop"),
        ("../teashop", "try teashop"),
        ("2tea", "use letters, digits and _, a letter first"),
        ("class", "it is a word of Python's"),
        ("_tea", "try tea"),
        ("thé", "try th"),
        ("json", "json is a module of Python's, which would not be found any more: try my_json"),
        ("rpckit", "rpckit is an installed module"),
        ("pydantic", "try my_pydantic"),
        ("tests", "try another name"),
    ],
)
def test_a_name_that_would_not_work_is_refused_with_a_better_one(
    rpckit: Rpckit, folder: Path, name: str, advice: str
) -> None:
    ran = rpckit("new", "--", name)
    assert (ran.code, ran.out) == (2, "")
    assert advice in " ".join(ran.err.split())
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["teashop", "tea_shop", "TeaShop", "tea2", "match"])
def test_other_names_are_taken(name: str) -> None:
    check_project_name(name)
