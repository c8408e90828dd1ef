"""Brokers of our own, for tests that kill and freeze them and for a demo on a machine where none is running.

Invariant: a broker started here shares nothing with any other (ports, node name, cookie, data and log
directories, all on loopback and below one scratch directory), and after `stop()`, or after the end of this
process however it comes, no process and no file of it is left.

RabbitMQ runs without epmd: the node and `rabbitmqctl` are told the one distribution port
(https://www.erlang.org/doc/apps/kernel/kernel_app, `erl_epmd_port`), so no name server outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rpckit.testing._ports import LOOPBACK, free_port
from rpckit.testing._process import Guard, ProcessTree

__all__ = ["BrokerError", "BrokerMissing", "RabbitMq"]

START_TIMEOUT = 60.0  # seconds; 5 to 6 on two cores, most of it Erlang loading modules
SHUTDOWN_TIMEOUT = 20.0  # seconds for a graceful end
CTL_TIMEOUT = 30.0  # seconds; rabbitmqctl starts a virtual machine of its own, 0.7 s
PROBE_TIMEOUT = 1.0  # seconds for the broker's first frame
POLL = 0.05  # seconds between two probes
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"  # AMQP 0-9-1, 4.2.2: a broker that is up answers with a method frame
METHOD_FRAME = b"\x01"
FOREIGN_SETTINGS = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")  # of another node in our environment
SYSTEM_DIRS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
# Packages put a wrapper there that changes the user and the directory; the programs themselves are here.
PACKAGED_DIR = "/usr/lib/rabbitmq/bin"


class BrokerError(RuntimeError):
    """A broker did not start or did not do as told; the text ends with its last log lines."""


class BrokerMissing(BrokerError):
    """The broker's program is not installed; the text says what to install."""


class RabbitMq:
    """A private rabbitmq-server. `with` and `async with` start and stop it; `url` says where it is.

    `config` adds lines to rabbitmq.conf, such as `{"consumer_timeout": "3000"}`. The methods block: in a
    coroutine run the slow ones (`start`, `shutdown`, `wait_ready`, `ctl`) in a thread.
    """

    def __init__(self, *, config: Mapping[str, str] | None = None, start_timeout: float = START_TIMEOUT) -> None:
        self.port = free_port()
        self._dist_port = free_port()
        self._node = f"rpckit-{self.port}@localhost"
        self._config = dict(config or {})
        self._start_timeout = start_timeout
        self._home: Path | None = None
        self._guard: Guard | None = None
        self._process: ProcessTree | None = None

    @staticmethod
    def installed() -> bool:
        """Whether a rabbitmq-server can be found on this machine."""
        return _find("rabbitmq-server") is not None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    def running(self) -> bool:
        """Whether its process exists; a frozen one does."""
        return self._process is not None and self._process.running()

    def pids(self) -> list[int]:
        """Its processes: launcher, Erlang machine and the helpers of that one."""
        return self._process.pids() if self._process else []

    def start(self) -> None:
        """Start it, or start it again after `kill()` or `shutdown()` on the same ports and data.

        Returns when it answers. Raises BrokerMissing when it is not installed, BrokerError when it does not
        come up; then it is stopped.
        """
        self._launch()
        try:
            self.wait_ready(self._start_timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it at once and remove every trace. Does nothing when it was never started."""
        self.kill()
        if self._guard:
            self._guard.release()
        self._guard = self._home = None

    def kill(self) -> None:
        """SIGKILL every process of it; the data stays. Returns when they are gone."""
        self._end(ProcessTree.kill)

    def shutdown(self, timeout: float = SHUTDOWN_TIMEOUT) -> None:
        """End it in good order: clients are told (320 CONNECTION_FORCED); the data stays."""
        self.thaw()
        self._end(lambda process: process.terminate(timeout))

    def freeze(self) -> None:
        """SIGSTOP every process of it: connections stay open and nothing answers."""
        if self._process:
            self._process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT what `freeze()` stopped."""
        if self._process:
            self._process.signal(signal.SIGCONT)

    def wait_ready(self, timeout: float) -> None:
        """Return when it answers an AMQP greeting. Raises BrokerError when it ended or `timeout` passed."""
        deadline = time.monotonic() + timeout
        while not self._greets():
            if not self.running():
                raise BrokerError(f"rabbitmq-server ended while starting\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"rabbitmq-server gave no answer in {timeout:g} s\n{self._log_tail()}")
            time.sleep(POLL)

    def ctl(self, *args: str, timeout: float = CTL_TIMEOUT) -> str:
        """Run `rabbitmqctl --quiet *args` and return what it printed. Raises BrokerError when that fails."""
        command = [_program("rabbitmqctl"), "--quiet", "--node", self._node, *args]
        try:
            done = subprocess.run(command, env=self._env(), capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise BrokerError(f"rabbitmqctl {' '.join(args)} took more than {timeout:g} s") from error
        if done.returncode:
            raise BrokerError(f"rabbitmqctl {' '.join(args)} failed\n{done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def flush(self) -> None:
        """Put on disk what was declared so far: brokers do so a little late, and a kill loses the rest."""
        self.ctl("eval", "mnesia:sync_log().")  # does no harm where the metadata store is another one

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self._launch()
        try:
            await asyncio.to_thread(self.wait_ready, self._start_timeout)
        except BaseException:  # cancelled too: the thread sees the process gone and ends
            self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()  # some 50 ms, and not left half done when we are cancelled

    def _launch(self) -> None:
        if self.running():
            raise BrokerError("this rabbitmq-server is already running")
        program = _program("rabbitmq-server")
        if self._home is None or self._guard is None:
            self._home = Path(tempfile.mkdtemp(prefix="rpckit-rabbitmq-"))
            self._guard = Guard(self._home)
            self._write_files(self._home)
        self._process = ProcessTree([program], env=self._env(), log=self._home / "output.log")
        self._guard.watch(self._process.group)

    def _end(self, how: Callable[[ProcessTree], None]) -> None:
        process, self._process = self._process, None
        if process and self._guard:
            how(process)
            self._guard.watch(None)

    def _write_files(self, home: Path) -> None:
        cookie = home / ".erlang.cookie"
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)  # Erlang refuses one that others may read
        (home / "enabled_plugins").write_text("[].\n")
        settings = {
            "listeners.tcp.1": f"{LOOPBACK}:{self.port}",
            "log.console": "true",
            "log.console.level": "warning",
            "log.file": "false",
            "disk_free_limit.absolute": "1MB",
            **self._config,
        }
        (home / "rabbitmq.conf").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))

    def _env(self) -> dict[str, str]:
        """The whole environment of the server and of rabbitmqctl; nothing below /etc is read."""
        if self._home is None:
            raise BrokerError("this rabbitmq-server was not started, or was stopped")
        home = str(self._home)
        distribution = f"-start_epmd false -erl_epmd_port {self._dist_port}"
        own = {
            "HOME": home,
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_CONF_ENV_FILE": f"{home}/none.conf",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/none.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_FEATURE_FLAGS_FILE": f"{home}/feature_flags",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{home}/generated",
            "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_SERVER_START_ARGS": (
                f"-sname {self._node} {distribution} -kernel inet_dist_use_interface {{127,0,0,1}}"
            ),
            "RABBITMQ_CTL_ERL_ARGS": f"{distribution} -dist_listen false",
            "ERL_CRASH_DUMP": f"{home}/crash.dump",
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN_SETTINGS)}
        return {"LANG": "C.UTF-8", **inherited, **own}

    def _greets(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((LOOPBACK, self.port), PROBE_TIMEOUT) as probe,
        ):
            probe.sendall(AMQP_HEADER)
            return probe.recv(1) == METHOD_FRAME
        return False

    def _log_tail(self) -> str:
        return self._process.tail() if self._process else "(it was stopped meanwhile)"


def _program(name: str) -> str:
    found = _find(name)
    if found is None:
        raise BrokerMissing(
            f"{name} was not found: install RabbitMQ (Debian and Ubuntu: apt-get install rabbitmq-server; "
            "macOS: brew install rabbitmq), or name a running broker"
        )
    return found


def _find(name: str) -> str | None:
    """The program on the PATH or in the system's directories, past the wrapper of a package."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_DIRS])
    found = shutil.which(name, path=path)
    if found and os.path.dirname(found) in SYSTEM_DIRS:
        return shutil.which(name, path=PACKAGED_DIR) or found
    return found
