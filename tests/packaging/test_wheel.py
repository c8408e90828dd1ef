"""The wheel as a stranger gets it: its contents, its metadata, and what it says without its extras.

Builds one wheel and installs it into a fresh virtual environment, its dependencies from the package index:
some 10 s, and the only tests that need the index. Leave them out with `--ignore=tests/packaging`.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

import pytest

from rpckit.codegen import python_client
from rpckit.demo.service import service as fibonacci
from rpckit.schema import contract_of
from rpckit.testing.conformance._types_service import shop

ROOT = Path(__file__).parents[2]
PIP_TIMEOUT = 120  # seconds
RUN_TIMEOUT = 20  # seconds

pytestmark = pytest.mark.timeout(2 * PIP_TIMEOUT)  # the first test waits for building and installing


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    parsed: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return parsed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the hatchling that is installed, or else with one that pip fetches."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-build-isolation"] if find_spec("hatchling") else []
    pip("wheel", "--no-deps", *isolation, "--wheel-dir", str(folder), str(ROOT))
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def sdist_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of the source distribution; pip makes none, so the build backend is asked itself."""
    pytest.importorskip("hatchling", reason="pip install hatchling")
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-c", BUILD_SDIST, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    return Parser().parsestr(read(wheel, "METADATA"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of an environment with the wheel, what it requires, and no extras."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=RUN_TIMEOUT)
    bin_folder = folder / ("Scripts" if sys.platform == "win32" else "bin")
    pip("--python", str(bin_folder / "python"), "install", "--no-compile", str(wheel))
    return bin_folder


def pip(*words: str) -> None:
    """Run pip. Its failure is the test's, with what it said."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT, cwd=ROOT.anchor)
    assert done.returncode == 0, done.stderr


def read(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        [path] = [each for each in archive.namelist() if each.endswith(f".dist-info/{name}")]
        return archive.read(path).decode()


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "", "HOME": str(cwd)}
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT, cwd=cwd, env=env)


# --- what is in it ---------------------------------------------------------------------------


def test_every_module_of_ours_is_in_it(names: set[str]) -> None:
    folders = {package: ROOT / package for package in ("rpckit", "rpckit_pytest")}
    folders |= {path.name: path for path in (ROOT / "transports").iterdir() if (path / "__init__.py").exists()}
    for package, folder in folders.items():
        modules = {f"{package}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.py")}
        assert modules <= names
        assert "rpckit_amqp/__init__.py" in names


def test_types_and_the_demo_come_with_it(names: set[str]) -> None:
    assert {"rpckit/py.typed", "rpckit/demo/service.py", "rpckit/demo/client.py"} <= names


def test_the_javascript_client_comes_with_it(names: set[str], wheel: Path) -> None:
    for name in ("rpckit.js", "rpckit.d.ts", "JAVASCRIPT.md"):
        assert f"rpckit_websocket/{name}" in names
    with zipfile.ZipFile(wheel) as archive:
        client = archive.read("rpckit_websocket/rpckit.js")
    assert client == (ROOT / "transports" / "rpckit_websocket" / "rpckit.js").read_bytes()


def test_the_sources_hold_what_the_wheel_and_the_tests_are_made_of(sdist_names: set[str]) -> None:
    client = {"transports/rpckit_websocket/rpckit.js", "tests/javascript/peer.test.mjs"}
    ours = {"pyproject.toml", "LICENSE", "rpckit/py.typed", "rpckit_pytest/__init__.py"}
    assert client | ours <= sdist_names


def test_nothing_else_is_in_it(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert all(package == "rpckit" or package.startswith("rpckit_") for package in packages)
    assert not any("test_" in name or "__pycache__" in name or name.endswith(".pyc") for name in names)


def test_metadata_says_what_pyproject_says(metadata: Message, project: dict[str, object]) -> None:
    assert metadata["Name"] == project["name"]
    assert metadata["Version"] == project["version"]
    assert metadata["Requires-Python"] == project["requires-python"]
    assert {"amqp", "cli", "all"} <= set(metadata.get_all("Provides-Extra") or ())


def test_the_core_requires_no_driver_and_no_terminal(metadata: Message) -> None:
    required = [each for each in metadata.get_all("Requires-Dist") or () if "extra ==" not in each]
    assert {each.partition(">")[0].strip() for each in required} == {
        "msgpack",
        "pydantic",
        "pydantic-settings",
        "tenacity",
    }


def test_entry_points_name_the_command_the_transports_and_the_plugin(wheel: Path) -> None:
    lines = read(wheel, "entry_points.txt").splitlines()
    for wanted in ("rpckit = rpckit.cli:main", "memory = rpckit.memory:MemoryTransport"):
        assert wanted in lines
    assert "amqp = rpckit_amqp:AmqpTransport" in lines
    assert "rpckit = rpckit_pytest" in lines[lines.index("[pytest11]") :]


# --- what it does in a fresh environment -------------------------------------------------------


def test_it_imports_and_calls_over_memory_without_extras(bare: Path, tmp_path: Path) -> None:
    done = run([str(bare / "python"), "-W", "error", "-c", OVER_MEMORY], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "832040\n", "")


@pytest.mark.parametrize("command", [["rpckit"], ["python", "-m", "rpckit"]], ids=" ".join)
def test_the_command_says_how_to_install_it(bare: Path, tmp_path: Path, command: list[str]) -> None:
    done = run([str(bare / command[0]), *command[1:], "demo"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "rpckit[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["amqp://localhost", "amqps://localhost"])
def test_a_transport_without_its_driver_says_how_to_install_it(bare: Path, tmp_path: Path, url: str) -> None:
    done = run([str(bare / "python"), "-W", "error", "-c", REFUSED, url], tmp_path)
    assert 'pip install "rpckit[amqp]"' in done.stdout, done.stderr


def test_an_unknown_transport_names_the_known_ones(bare: Path, tmp_path: Path) -> None:
    done = run([str(bare / "python"), "-W", "error", "-c", REFUSED, "nosuch://x"], tmp_path)
    assert "memory://" in done.stdout, done.stderr


def test_what_is_generated_is_strictly_typed_where_only_rpckit_is_installed(bare: Path, tmp_path: Path) -> None:
    for service in (shop(), fibonacci):
        (tmp_path / f"{service.name}_client.py").write_text(python_client(contract_of(service)))
        (tmp_path / f"{service.name}_sync.py").write_text(python_client(contract_of(service), sync=True))
    (tmp_path / "used.py").write_text(USES_GENERATED)
    python = ["--python-executable", str(bare / "python"), "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", "--strict", *python, "."]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


BUILD_SDIST = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"

OVER_MEMORY = """
import asyncio
from rpckit import Server
from rpckit.demo import FibonacciRpcClient, service

async def main():
    async with Server(service, url="memory://x"), FibonacciRpcClient("memory://x") as fibonacci_rpc:
        print(await fibonacci_rpc.call(30))

asyncio.run(main())
"""

REFUSED = """
import sys
import rpckit

try:
    rpckit.Client(sys.argv[1])
except rpckit.UsageError as error:
    print(error)
"""

USES_GENERATED = """
import fibonacci_sync
from shop_client import Item, Order, Priority, ShopRpcClient


def block() -> int:
    with fibonacci_sync.FibonacciRpcClient("memory://typed") as fibonacci_rpc:
        return fibonacci_rpc.using(timeout=3).call(4)


async def use(order: Order) -> list[Item]:
    async with ShopRpcClient("memory://typed") as shop_rpc:
        placed = await shop_rpc.place(order, Priority.HIGH, timeout=3)
        await shop_rpc.reserve(Item("tea"), "many")  # type: ignore[arg-type]
        return placed.items
"""
