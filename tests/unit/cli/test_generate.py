"""`rpckit generate`, from source: what it writes, and how it says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rpckit.codegen import python_client, typescript_client
from rpckit.demo import service
from rpckit.schema import contract_of

Rpckit = Callable[..., Any]
TARGET = "rpckit.demo.service:service"


def test_it_prints_the_client(rpckit: Rpckit) -> None:
    assert rpckit("generate", TARGET).out == python_client(contract_of(service))
    assert rpckit("generate", TARGET, "--sync").out == python_client(contract_of(service), sync=True)


def test_it_prints_typescript(rpckit: Rpckit) -> None:
    words = ("generate", TARGET, "--lang", "typescript", "--module", "../rpckit.js")
    assert rpckit(*words).out == typescript_client(contract_of(service), module="../rpckit.js")


def test_it_writes_a_file_and_knows_whether_it_is_up_to_date(rpckit: Rpckit, tmp_path: Path) -> None:
    out = tmp_path / "client.py"
    missing = rpckit("generate", TARGET, "--out", str(out), "--check")
    assert missing.code == 1
    assert re.search(r"\n… and \d+ lines more\n$", missing.err)  # told, not cut in silence
    assert not out.exists()
    assert rpckit("generate", TARGET, "--out", str(out)).code == 0
    assert out.read_text() == python_client(contract_of(service))
    assert rpckit("generate", TARGET, "--out", str(out), "--check").code == 0
    out.write_text(out.read_text().replace("n: int", "n: str"))
    stale = rpckit("generate", TARGET, "--out", str(out), "--check")
    assert stale.code == 1
    assert "-        n: str," in stale.err
    assert "n: str" in out.read_text()


@pytest.mark.parametrize(
    "words, said",
    [
        ((TARGET, "--check"), "name it with --out"),
        ((TARGET, "--lang", "typescript", "--sync"), "--sync is for Python"),
        ((TARGET, "--out", "/nowhere/client.py"), "/nowhere/client.py cannot be written"),
        (("rpckit.demo.service:nothing",), "Services there: rpckit.demo.service:service"),
    ],
)
def test_what_cannot_be_generated_is_told_why(rpckit: Rpckit, words: tuple[str, ...], said: str) -> None:
    ran = rpckit("generate", *words)
    assert ran.code == 2
    assert said in ran.err


@pytest.mark.parametrize("file", ["shop/orders.py", "shop/orders/__init__.py"])
def test_a_module_whose_service_is_not_named_is_asked_about(rpckit: Rpckit, folder: Path, file: str) -> None:
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_text('1 / 0\nservice = Service("orders")\nstock = Service("stock")\n')
    (folder / "rpckit.toml").write_text('url = "memory://nobody"\n')
    ran = rpckit("generate", "shop.orders", "--wait", "0.02")
    assert ran.code == 3
    assert ran.err.startswith("no responder: nobody who serves 'shop.orders' answered on memory://nobody")
    assert ran.err.endswith("\nshop.orders is a module here: is that shop.orders:service or shop.orders:stock?\n")


def test_an_address_with_its_url_is_not_taken_for_a_module(rpckit: Rpckit, folder: Path) -> None:
    (folder / "orders.py").write_text('service = Service("orders")\n')
    ran = rpckit("generate", "orders", "--wait", "0.02", "--url", "memory://nobody")
    assert "module" not in ran.err


def test_a_file_that_cannot_be_compared_with_is_a_usage_error(rpckit: Rpckit, folder: Path) -> None:
    (folder / "binary.py").write_bytes(b"\xff")
    for out in (folder, folder / "binary.py"):
        ran = rpckit("generate", TARGET, "--out", str(out), "--check")
        assert ran.code == 2
        assert f"{out} cannot be read" in ran.err
