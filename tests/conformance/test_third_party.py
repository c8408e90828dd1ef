"""A transport that somebody else wrote, found as theirs would be, passes the suite.

It lives in `thirdparty/`, a distribution of its own with a `pyproject.toml`. Installing it is imitated:
what an installer writes beside the package (`.dist-info` with its entry points) is written into a
directory on `sys.path`.
"""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpckit import registry
from rpckit.errors import UsageError
from rpckit.registry import load_transport, open_transport
from rpckit.testing.conformance import TransportConformance

DISTRIBUTION = Path(__file__).parent / "thirdparty"


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As after `pip install rpckit-unix`, for one test."""
    project = tomllib.loads((DISTRIBUTION / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"rpckit_unix-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [f"{scheme} = {target}" for scheme, target in project["entry-points"]["rpckit.transports"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[rpckit.transports]", *points, ""]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(DISTRIBUTION)
    registry._entry_points.cache_clear()
    yield
    monkeypatch.undo()
    registry._entry_points.cache_clear()


@pytest.fixture
def url() -> Iterator[str]:
    """A directory with a short name: the path of a Unix socket has at most 107 bytes."""
    directory = tempfile.mkdtemp(prefix="rpckit")
    yield f"unix://{directory}"
    shutil.rmtree(directory)


class TestUnix(TransportConformance):
    @pytest.fixture
    def url(self, url: str) -> str:
        return url


def test_it_was_found_by_its_entry_point(url: str) -> None:
    assert load_transport("unix").__module__ == "rpckit_unix"
    assert open_transport(url).capabilities.name == "unix"


def test_an_unknown_scheme_names_it_among_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unix://"):
        load_transport("pigeon")
