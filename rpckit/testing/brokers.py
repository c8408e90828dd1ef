"""Brokers of our own, for tests that kill and freeze them and for a demo on a machine where none is running.

Invariant: a broker started here shares nothing with any other (ports, node name, cookie, data and log
directories, all on loopback and below one scratch directory), and after `stop()`, or after the end of this
process however it comes, no process and no file of it is left.

RabbitMQ runs without epmd: the node and `rabbitmqctl` are told the one distribution port
(https://www.erlang.org/doc/apps/kernel/kernel_app, `erl_epmd_port`), so no name server outlives it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from rpckit.testing._ports import LOOPBACK, free_port
from rpckit.testing._server import PROBE_TIMEOUT, BrokerError, BrokerMissing, OwnServer

__all__ = ["BrokerError", "BrokerMissing", "RabbitMq"]

START_TIMEOUT = 120.0  # seconds; 5 to 10 on two cores, most of it Erlang loading modules, over 20 where they stall
CTL_TIMEOUT = 30.0  # seconds; rabbitmqctl starts a virtual machine of its own, 0.7 s
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"  # AMQP 0-9-1, 4.2.2: a broker that is up answers with a method frame
METHOD_FRAME = b"\x01"
FOREIGN_SETTINGS = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")  # of another node in our environment
SYSTEM_DIRS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
# Packages put a wrapper there that changes the user and the directory; the programs themselves are here.
PACKAGED_DIR = "/usr/lib/rabbitmq/bin"


class RabbitMq(OwnServer):
    """A private rabbitmq-server. `with` and `async with` start and stop it; `url` says where it is.

    `config` adds lines to rabbitmq.conf, such as `{"consumer_timeout": "3000"}`. At a `shutdown()` clients are
    told (320 CONNECTION_FORCED). The methods block: in a coroutine run the slow ones (`start`, `shutdown`,
    `wait_ready`, `ctl`) in a thread.
    """

    name = "rabbitmq-server"

    def __init__(self, *, config: Mapping[str, str] | None = None, start_timeout: float = START_TIMEOUT) -> None:
        super().__init__(start_timeout)
        self._dist_port = free_port()
        self._node = f"rpckit-{self.port}@localhost"
        self._config = dict(config or {})

    @staticmethod
    def installed() -> bool:
        """Whether a rabbitmq-server can be found on this machine."""
        return _find("rabbitmq-server") is not None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

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

    def _program(self) -> str:
        return _program("rabbitmq-server")

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
