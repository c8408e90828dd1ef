"""The plugin for pytest, in test runs of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

IMPORTED_HERE = "ignore::pytest.PytestAssertRewriteWarning"  # by the run that these runs are in
ALONE = ("-p", "rpckit_pytest", "-p", "no:cacheprovider", "-W", "error", "-W", IMPORTED_HERE)

SERVICE = """
import asyncio
import pytest
from rpckit import InternalError, InvalidArgument, Service
from rpckit.testing import virtual_time

service = Service("fibonacci")

@service.method
async def fib(n: int) -> int:
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a

@service.method
def fail() -> None:
    raise KeyError("a secret")
"""

OVERRIDE = """
@pytest.fixture
def rpc_service():
    return service
"""


@pytest.fixture(autouse=True)
def _no_other_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, *sources: str) -> pytest.RunResult:
    pytester.makepyfile("\n".join(sources))
    return pytester.runpytest_inprocess(*ALONE)


def test_a_call_goes_all_the_way(pytester: pytest.Pytester) -> None:
    tests = """
def test_fib(rpc_client):
    assert rpc_client.call("fibonacci.fib", 30) == 832040

def test_arguments_are_checked(rpc_client):
    with pytest.raises(InvalidArgument):
        rpc_client.call("fibonacci.fib", "thirty")

def test_a_secret_stays_on_the_server(rpc_client):
    with pytest.raises(InternalError) as raised:
        rpc_client.call("fibonacci.fail")
    assert "secret" not in str(raised.value)
"""
    run(pytester, SERVICE, OVERRIDE, tests).assert_outcomes(passed=3)


def test_several_services_may_be_served(pytester: pytest.Pytester) -> None:
    tests = """
@pytest.fixture
def rpc_service():
    return [service, Service.from_object(Echo(), name="echo")]

class Echo:
    async def say(self, text: str) -> str:
        return text

def test_both(rpc_client):
    assert rpc_client.call("echo.say", "hi") == "hi"
    assert rpc_client.call("fibonacci.fib", 1) == 1
"""
    run(pytester, SERVICE, tests).assert_outcomes(passed=1)


def test_without_a_service_it_says_how_to_give_one(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_fib(rpc_client): ...")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*rpc_client does not know what to serve*", "*def rpc_service():*"])
    result.stdout.no_fnmatch_line("*rpckit_pytest/__init__.py:*")


def test_a_call_that_fails_is_shown_where_the_test_makes_it(pytester: pytest.Pytester) -> None:
    tests = """
def test_fib(rpc_client):
    rpc_client.call("fibonacci.fib", "many")
"""
    result = run(pytester, SERVICE, OVERRIDE, tests)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ['>*rpc_client.call("fibonacci.fib", "many")', "E*InvalidArgument: *n: Input should be*"]
    )
    result.stdout.no_fnmatch_line("*client.py:*")
    pytester.runpytest_inprocess(*ALONE, "--full-trace").stdout.fnmatch_lines("*client.py:*")


def test_a_test_may_choose_what_is_served_and_how(pytester: pytest.Pytester) -> None:
    tests = """
def test_two_servers(rpc_serve):
    first, second = rpc_serve(service), rpc_serve(service, timeout=0.5, debug=True)
    assert first.call("fibonacci.fib", 10) == second.call("fibonacci.fib", 10)
    with pytest.raises(Exception, match="a secret"):
        second.call("fibonacci.fail")
"""
    run(pytester, SERVICE, tests).assert_outcomes(passed=1)


def test_it_lives_beside_virtual_time_and_needs_no_plugin_for_asyncio(pytester: pytest.Pytester) -> None:
    tests = """
@virtual_time
async def test_an_hour(tmp_path):
    await asyncio.sleep(3600)

def test_fib(rpc_client):
    assert rpc_client.call("fibonacci.fib", 30) == 832040
"""
    run(pytester, SERVICE, OVERRIDE, tests).assert_outcomes(passed=2)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_pytest_asyncio_leaves_it_alone(pytester: pytest.Pytester, mode: str) -> None:
    tests = """
@virtual_time
async def test_an_hour(rpc_client):
    await asyncio.sleep(3600)

@pytest.mark.asyncio
async def test_in_a_loop_it_says_what_to_use(rpc_client):
    with pytest.raises(Exception, match="await the calls of a Client"):
        rpc_client.call("fibonacci.fib", 30)
"""
    pytester.makepyfile(f"{SERVICE}{OVERRIDE}{tests}")
    pytester.makeini(f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function")
    pytester.runpytest_inprocess(*ALONE, "-p", "pytest_asyncio.plugin").assert_outcomes(passed=2)


def test_a_test_that_closes_its_client_leaves_nothing(pytester: pytest.Pytester) -> None:
    tests = """
import threading

def test_closing(rpc_client):
    rpc_client.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("BlockingClient")]
"""
    run(pytester, SERVICE, OVERRIDE, tests).assert_outcomes(passed=1)


def test_at_the_start_of_a_run_it_imports_nothing_of_rpckit() -> None:
    script = "import sys, pytest, rpckit_pytest; print([name for name in sys.modules if name.startswith('rpckit')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert [name for name in done.stdout.strip("[]\n").split(", ") if "editable" not in name] == ["'rpckit_pytest'"]
