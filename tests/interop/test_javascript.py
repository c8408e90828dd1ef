"""rpckit.js in Node: its own tests, run by Node's runner against a JSON-RPC server on a WebSocket."""

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

SERVER = Path(__file__).parent / "peers" / "websockets_jsonrpc.py"
PEER_URL = "RPCKIT_TEST_JS_URL"  # of a server with the service `js`, as the files under tests/javascript read it
FILES = sorted((ROOT / "tests" / "javascript").glob("*.test.mjs"))
OLDEST_NODE = (20, 10)  # the first with --experimental-websocket
TIMEOUT = 50.0  # seconds for one file; they take under ten


@pytest.fixture(scope="module")
def peer_url() -> Iterator[str]:
    """The server of the environment, else the one beside these tests."""
    if url := os.environ.get(PEER_URL):
        yield url
        return
    if find_spec("websockets") is None:
        _missing("websockets is not installed: pip install websockets")
    with running([sys.executable, str(SERVER)], ready="/ws\n") as program:
        yield program.output.split()[-1]


def test_there_are_tests_to_run() -> None:
    assert {"alone.test.mjs", "faults.test.mjs", "peer.test.mjs"} <= {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_every_test_of_the_javascript_client_passes(file: Path, peer_url: str) -> None:
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
