"""A new project as its owner has it: tested, served and called in processes, and clean under the tools."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.interop.processes import ROOT, clean_env, finish, rpckit, running

NAMES = ("teashop", "a_shop_with_a_rather_long_name")


@pytest.fixture(params=NAMES)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a project just written."""
    assert finish(rpckit("new", request.param), cwd=tmp_path).code == 0
    folder: Path = tmp_path / request.param
    return folder


def test_its_tests_pass(project: Path) -> None:
    ran = finish([sys.executable, "-m", "pytest", "-p", "no:cacheprovider"], cwd=project)
    assert " 4 passed" in ran.out, ran.out
    assert ran.code == 0


def test_it_is_served_and_called_as_its_readme_says(project: Path, unused_tcp_port: int) -> None:
    env = clean_env(RPCKIT_URL=f"ws://127.0.0.1:{unused_tcp_port}")
    name = project.name
    serve = rpckit("serve", f"{name}.service:service")
    with running(serve, ready=f"serving {name} (menu, price, brew)", env=env, cwd=project):
        ran = finish(rpckit("call", f"{name}.price", '{"tea": "sencha", "cups": 3}'), env=env, cwd=project)
        assert (ran.code, ran.out) == (0, "15\n")
        ran = finish(rpckit("call", f"{name}.price", '{"tea": "coffee"}'), env=env, cwd=project)
        assert ran.code == 1
        assert "coffee is not on the menu" in ran.err
        program = (project / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
        ran = finish([sys.executable, "-c", program], env=env, cwd=project)
        assert (ran.out, ran.err) == ("15\n", "")


@pytest.mark.parametrize("words", [["format", "--check"], ["check"]], ids=" ".join)
def test_ruff_finds_nothing(project: Path, words: list[str]) -> None:
    pytest.importorskip("ruff", reason="pip install ruff")
    ran = finish([sys.executable, "-m", "ruff", *words, "--no-cache", "."], cwd=project)
    assert ran.code == 0, ran.out


@pytest.mark.parametrize("project", NAMES[:1], indirect=True)
def test_mypy_finds_nothing(project: Path) -> None:
    pytest.importorskip("mypy", reason="pip install mypy")
    env = clean_env(MYPYPATH=str(ROOT))  # an editable rpckit is not found by itself
    options = ["--strict", "--follow-imports", "silent", "--cache-dir", "/dev/null"]
    command = [sys.executable, "-m", "mypy", *options, project.name, "tests"]
    ran = finish(command, env=env, cwd=project, timeout=60)
    assert ran.code == 0, ran.out
