"""`rpckit schema` as a step of a pipeline runs it: exit codes, and documents on stdout alone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.interop.processes import Ran, clean_env, finish, rpckit

SERVICE = """
from rpckit import Service

service = Service("shop")

@service.method
async def place(item: str) -> str: ...
"""


def run(folder: Path, *words: str) -> Ran:
    return finish(rpckit("schema", *words), env=clean_env(), cwd=folder)


def test_a_breaking_change_fails_the_pipeline_and_an_additive_one_does_not(tmp_path: Path) -> None:
    module = tmp_path / "shop_service.py"
    module.write_text(SERVICE)
    kept = run(tmp_path, "shop_service:service", "--format", "contract")
    assert (kept.code, kept.err) == (0, "")
    (tmp_path / "kept.json").write_text(kept.out)

    module.write_text(SERVICE.replace("item: str", "item: str, note: str = ''"))
    ran = run(tmp_path, "shop_service:service", "--diff", "kept.json")
    assert (ran.code, ran.out, ran.err) == (0, "additive  place(note): is new and optional\n", "")

    module.write_text(SERVICE.replace("item: str", "item: int"))
    ran = run(tmp_path, "shop_service:service", "--diff", "kept.json")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith("breaking  place(item): ")


def test_documents_of_all_formats_are_json(tmp_path: Path) -> None:
    (tmp_path / "shop_service.py").write_text(SERVICE)
    for each in ("openrpc", "asyncapi", "jsonschema", "contract"):
        ran = run(tmp_path, "shop_service:service", "--format", each)
        assert (ran.code, ran.err) == (0, "")
        json.loads(ran.out)
