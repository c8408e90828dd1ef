"""What npm has installed beside the peers, and Node to run it with. Missing ones skip at a desk and fail in CI."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.interop.processes import finish

__all__ = ["NODE_MODULES", "exported", "exported_names", "installed", "node"]

NODE_MODULES = Path(__file__).parent / "node" / "node_modules"


def installed(*packages: str) -> None:
    """Go on only if they are."""
    for package in packages:
        if not (NODE_MODULES / package).is_dir():
            _missing(f"the npm package {package} is not installed: scripts/interop")


def node() -> str:
    """The path of Node.js."""
    found = shutil.which("node")
    if found is None:
        _missing("Node.js is not installed: scripts/interop")
    assert found is not None
    return found


def exported(package: str) -> Any:
    """The default export of a package, which is plain data."""
    program = f"console.log(JSON.stringify(require({json.dumps(str(NODE_MODULES / package))}).default))"
    ran = finish([node(), "-e", program])
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def exported_names(module: Path) -> list[str]:
    """What an ES module exports."""
    program = f"console.log(JSON.stringify(Object.keys(await import({json.dumps(module.as_uri())}))))"
    ran = finish([node(), "--input-type=module", "-e", program])
    assert ran.code == 0, ran.err
    names: list[str] = json.loads(ran.out)
    return names


def _missing(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
