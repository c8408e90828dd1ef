"""Generated Python is as a formatter and a linter would have it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rpckit import Service
from rpckit.codegen import python_client
from rpckit.demo.service import service as fibonacci
from rpckit.schema import contract_of
from rpckit.testing.conformance._types_service import shop
from tests.odd_service import odd


@pytest.mark.parametrize("width", [88, 120])
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("service", [shop(), fibonacci, odd()], ids=["shop", "fibonacci", "odd"])
def test_it_is_formatted(service: Service, sync: bool, width: int, tmp_path: Path) -> None:
    """In somebody's project, where rpckit is a library like any other."""
    text = python_client(contract_of(service), sync=sync)
    for command in (["format", "--diff"], ["check", "--select=F,W,I,UP,C4,PIE,RET,PYI"]):
        argv = [sys.executable, "-m", "ruff", *command, "--isolated", f"--line-length={width}", "-"]
        ran = subprocess.run(argv, input=text, capture_output=True, text=True, cwd=tmp_path, timeout=20)
        assert ran.returncode == 0, ran.stdout + ran.stderr
