"""Generated clients in TypeScript: `tsc` takes them as strictly as it can, and Node calls a server with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpckit import Service
from rpckit.codegen import typescript_client
from rpckit.demo import service as fibonacci
from rpckit.schema import contract_of
from rpckit.testing._ports import LOOPBACK, free_port
from rpckit.testing.conformance._types_service import shop as conformance_shop
from rpckit_websocket import JAVASCRIPT
from tests.awkward_names import service as awkward
from tests.every_type import service, shop
from tests.interop.node_packages import NODE_MODULES, exported_names, installed, node
from tests.interop.processes import Ran, finish, rpckit, running

PROGRAM = Path(__file__).parent / "typescript" / "program.ts"
STRICT = (
    *("--strict", "--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext"),
    *("--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--noImplicitOverride", "--noImplicitReturns"),
    *("--noUnusedLocals", "--noUnusedParameters", "--noPropertyAccessFromIndexSignature", "--verbatimModuleSyntax"),
)
TIMEOUT = 50.0  # seconds; the compiler takes about three


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with the JavaScript client copied beside."""
    installed("typescript")
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}))
    for file in (JAVASCRIPT, JAVASCRIPT.with_suffix(".d.ts")):
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of a server with the service of every type."""
    url = f"ws://{LOOPBACK}:{free_port()}/ws"
    with running(rpckit("serve", "tests.every_type:service", "--url", url), ready="serving every type"):
        yield url


def test_clients_compile_strictly(folder: Path) -> None:
    services = [service, shop, conformance_shop(), fibonacci, awkward, Service("empty")]
    files = [f"client{number}.ts" for number in range(len(services))]
    for name, each in zip(files, services, strict=True):
        (folder / name).write_text(typescript_client(contract_of(each)), "utf-8")
    compiled = tsc(folder, "--noEmit", *files)
    assert (compiled.code, compiled.out) == (0, "")


def test_node_calls_a_server_with_a_compiled_client(folder: Path, url: str) -> None:
    (folder / "client.ts").write_text(typescript_client(contract_of(service)), "utf-8")
    shutil.copy(PROGRAM, folder)
    compiled = tsc(folder, "client.ts", "program.ts")
    assert (compiled.code, compiled.out) == (0, "")
    ran = finish([node(), "--experimental-websocket", "program.js", url], cwd=folder, timeout=TIMEOUT)
    assert ran.out == "done\n", ran.err
    assert ran.code == 0


def test_the_module_may_be_elsewhere(folder: Path) -> None:
    (folder / "lib").mkdir()
    for name in ("rpckit.js", "rpckit.d.ts"):
        (folder / name).rename(folder / "lib" / name)
    text = typescript_client(contract_of(fibonacci), module="./lib/rpckit.js")
    (folder / "client.ts").write_text(text, "utf-8")
    assert tsc(folder, "--noEmit", "client.ts").out == ""


def test_the_declarations_name_what_the_module_exports(folder: Path) -> None:
    """Each value that rpckit.js exports is one that rpckit.d.ts declares, and there are no others."""
    checks = "\n".join(f"void rpckit.{name};" for name in exported_names(JAVASCRIPT))
    declared = JAVASCRIPT.with_suffix(".d.ts").read_text("utf-8")
    values = [
        line.split("(")[0].split()[2]
        for line in declared.splitlines()
        if line.startswith(("export class", "export func"))
    ]
    assert sorted(values) == sorted(exported_names(JAVASCRIPT))
    (folder / "names.ts").write_text(f'import * as rpckit from "./rpckit.js";\n{checks}\n')
    assert tsc(folder, "--noEmit", "names.ts").out == ""


def tsc(folder: Path, *words: str) -> Ran:
    compiler = NODE_MODULES / "typescript" / "bin" / "tsc"
    return finish([node(), str(compiler), *STRICT, *words], cwd=folder, timeout=TIMEOUT)
