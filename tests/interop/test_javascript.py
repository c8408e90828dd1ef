"""rpckit.js in Node: its own tests, run by Node's runner against each server on a WebSocket that there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.interop.processes import ROOT, Ran, clean_env, finish, running

PEERS = Path(__file__).parent / "peers"
SERVERS = {  # what serves `js`, and what that takes
    "stub": (["websockets_jsonrpc.py"], "websockets"),  # made with websockets alone
    "listening": (["rpckit_js_server.py", "listening"], "fastapi"),
    "endpoint": (["rpckit_js_server.py", "endpoint"], "fastapi"),
}
PEER_URL = "RPCKIT_TEST_JS_URL"  # of a server with the service `js`, as the files under tests/javascript read it
FILES = {file.name.partition(".")[0]: file for file in (ROOT / "tests" / "javascript").glob("*.test.mjs")}
ALONE = {"alone"}  # need no server
OLDEST_NODE = (20, 10)  # the first with --experimental-websocket
TIMEOUT = 50.0  # seconds for one file; they take under ten


@pytest.fixture(scope="module", params=["environment"] if PEER_URL in os.environ else SERVERS)
def peer_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The server of the environment, else each of those beside these tests."""
    if url := os.environ.get(PEER_URL):
        yield url
        return
    (program, *words), package = SERVERS[request.param]
    if find_spec(package) is None:
        _missing(f"{package} is not installed: pip install {package}")
    with running([sys.executable, str(PEERS / program), *words], ready="/ws\n") as server:
        yield server.output.split()[-1]
        assert server.code is None, server.output
        assert server.output.count("\n") == 1, server.output  # nothing it complained of


def test_there_are_tests_to_run() -> None:
    assert {"alone", "faults", "peer"} <= FILES.keys()


@pytest.mark.parametrize("name", sorted(ALONE))
def test_the_javascript_client_without_a_server(name: str) -> None:
    _check_all_pass(FILES[name], "")


@pytest.mark.parametrize("name", sorted(FILES.keys() - ALONE))
def test_the_javascript_client_with_a_server(name: str, peer_url: str) -> None:
    _check_all_pass(FILES[name], peer_url)


def _check_all_pass(file: Path, peer_url: str) -> None:
    ran = _node_tests(file, peer_url)
    counted = dict(re.findall(r"^# (tests|pass|fail|cancelled|skipped|todo) (\d+)$", ran.out, re.MULTILINE))
    assert ran.code == 0, ran.out + ran.err
    assert counted["pass"] == counted["tests"] != "0", ran.out


def _node_tests(file: Path, peer_url: str) -> Ran:
    options = ["--test", "--experimental-websocket", "--test-reporter=tap"]
    return finish([_node(), *options, str(file)], env=clean_env(**{PEER_URL: peer_url}), timeout=TIMEOUT)


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        _missing("Node.js is not installed: scripts/interop")
    assert node is not None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
    if tuple(map(int, version.strip("v\n").split(".")[:2])) < OLDEST_NODE:
        _missing(f"Node.js {version.strip()} has no WebSocket; it takes {'.'.join(map(str, OLDEST_NODE))}")
    return node


def _missing(reason: str) -> None:
    """Skip at a desk, fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
