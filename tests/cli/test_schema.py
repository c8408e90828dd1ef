"""`rpckit schema` as a step of a pipeline runs it: exit codes, and documents on stdout alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpckit.testing._ports import LOOPBACK, free_port
from tests.interop.processes import Ran, clean_env, finish, rpckit, running

SERVICE = """
from rpckit import Service

service = Service("shop")

@service.method
async def place(item: str) -> str: ...
"""


def run(folder: Path, *words: str) -> Ran:
    return finish(rpckit("schema", *words), env=clean_env(), cwd=folder)


def test_a_breaking_change_fails_the_pipeline_and_an_additive_one_does_not(tmp_path: Path) -> None:
    module = tmp_path / "shop_service.py"
    module.write_text(SERVICE)
    kept = run(tmp_path, "shop_service:service", "--format", "contract")
    assert (kept.code, kept.err) == (0, "")
    (tmp_path / "kept.json").write_text(kept.out)

    module.write_text(SERVICE.replace("item: str", "item: str, note: str = ''"))
    ran = run(tmp_path, "shop_service:service", "--diff", "kept.json")
    assert (ran.code, ran.out, ran.err) == (0, "additive  place(note): is new and optional\n", "")

    module.write_text(SERVICE.replace("item: str", "item: int"))
    ran = run(tmp_path, "shop_service:service", "--diff", "kept.json")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith("breaking  place(item): ")


def test_documents_of_all_formats_are_json(tmp_path: Path) -> None:
    (tmp_path / "shop_service.py").write_text(SERVICE)
    for each in ("openrpc", "asyncapi", "jsonschema", "contract"):
        ran = run(tmp_path, "shop_service:service", "--format", each)
        assert (ran.code, ran.err) == (0, "")
        json.loads(ran.out)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of a running server, which needs no broker."""
    url = f"ws://{LOOPBACK}:{free_port()}/ws"
    with running(rpckit("serve", "rpckit.demo.service:service", "--url", url), ready="serving fibonacci"):
        yield url


@pytest.mark.parametrize("format", ["openrpc", "asyncapi", "jsonschema", "contract"])
def test_a_running_service_has_the_documents_of_its_source(url: str, format: str, tmp_path: Path) -> None:
    asked = run(tmp_path, "rpc_queue", "--format", format, "--url", url)
    assert (asked.code, asked.err) == (0, "")
    assert asked.out == run(tmp_path, "rpckit.demo.service:service", "--format", format, "--url", url).out


def test_openrpc_is_what_a_session_answers_to_rpc_discover(url: str, tmp_path: Path) -> None:
    told = finish(rpckit("call", "rpc.discover", "--url", url), env=clean_env(), cwd=tmp_path)
    assert json.loads(told.out) == json.loads(run(tmp_path, "rpc_queue", "--url", url).out)


LIAR = """
from typing import Any
from rpckit import Service

service = Service("liar", address="rpc")

@service.method
async def schema(address: str = "") -> dict[str, Any]:
    contract = {"rpckit": 1, "service": "shop", "address": address, "version": "", "doc": "", "fingerprint": "",
        "default": None, "methods": {}, "errors": {}, "events": [], "definitions": {}}
    if address == "hostile":
        contract["methods"] = {"a(self): import os": {}}
    return {"instance": {"id": "1", "host": "h", "pid": 7}, "contracts": [] if address == "none" else [contract]}
"""


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that answers something else."""
    folder, url = tmp_path_factory.mktemp("liar"), f"ws://{LOOPBACK}:{free_port()}/ws"
    (folder / "liar.py").write_text(LIAR)
    with running(rpckit("serve", "liar:service", "--url", url), ready="serving liar", env=clean_env(), cwd=folder):
        yield url


@pytest.mark.parametrize("command", ["describe", "schema", "generate"])
@pytest.mark.parametrize("address,said", [("none", "rpckit: Field required"), ("hostile", "cannot be a name")])
def test_an_answer_that_is_no_contract_says_whose_it_was(
    liar: str, tmp_path: Path, command: str, address: str, said: str
) -> None:
    ran = finish(rpckit(command, address, "--url", liar, "--wait", "5"), env=clean_env(), cwd=tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"bad reply: what h:7, with rpckit unknown answers for '{address}' is not a contract: ")
    assert said in ran.err
    honest = finish(rpckit(command, "honest", "--url", liar), env=clean_env(), cwd=tmp_path)
    assert (honest.code, honest.err) == (0, "")


def test_a_port_that_is_taken_is_said_with_what_to_do(url: str, tmp_path: Path) -> None:
    ran = finish(rpckit("serve", "rpckit.demo.service:service", "--url", url), env=clean_env(), cwd=tmp_path)
    where, port = url.removesuffix("/ws"), url.rpartition(":")[2].removesuffix("/ws")
    assert (ran.code, ran.out) == (5, "")
    assert ran.err == (
        f"not sent: cannot listen on {where}: port {port} is in use by another program there: end that one, or name "
        "another port in the URL\nNothing is served. Is the broker running, or over ws:// the port free?\n"
    )


def test_a_running_service_is_compared_with_what_it_was(url: str, tmp_path: Path) -> None:
    assert run(tmp_path, "rpckit.demo.service:service", "--diff", "rpc_queue", "--url", url).out == "no changes\n"
    assert run(tmp_path, "nobody.here", "--url", url).code == 3
