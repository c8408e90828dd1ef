"""The documents against the schemas that OpenRPC and AsyncAPI publish."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from rpckit import Service
from rpckit.demo import service as fibonacci
from rpckit.documents import asyncapi, json_schema, openrpc
from rpckit.schema import contract_of
from tests.awkward_names import service as awkward
from tests.every_type import service, shop
from tests.interop.node_packages import NODE_MODULES, exported, installed

SERVICES = {
    "fibonacci": [fibonacci],
    "every type": [service],
    "awkward": [awkward],
    "several": [service, shop, fibonacci],
    "empty": [Service("empty")],
    "none": [],
}
several = pytest.mark.parametrize("services", SERVICES.values(), ids=SERVICES)


@pytest.fixture(scope="module")
def openrpc_validator() -> Draft7Validator:
    installed("@open-rpc/meta-schema", "@json-schema-tools/meta-schema")
    schemas = exported("@json-schema-tools/meta-schema")
    registry: Registry[Any] = Registry().with_resources(
        (uri, DRAFT7.create_resource(schemas))
        for uri in ("https://meta.json-schema.tools", "https://meta.json-schema.tools/")
    )
    return Draft7Validator(exported("@open-rpc/meta-schema"), registry=registry)


@pytest.fixture(scope="module")
def asyncapi_validator() -> Draft7Validator:
    installed("@asyncapi/specs")
    path = NODE_MODULES / "@asyncapi" / "specs" / "schemas" / "3.0.0-without-$id.json"
    return Draft7Validator(json.loads(path.read_text("utf-8")))


@several
def test_openrpc_is_valid(services: Sequence[Service], openrpc_validator: Draft7Validator) -> None:
    openrpc_validator.validate(openrpc([contract_of(each) for each in services]))


def test_the_schema_of_openrpc_refuses_what_is_not(openrpc_validator: Draft7Validator) -> None:
    document = openrpc([contract_of(shop)])
    document["methods"][0]["params"][0]["schema"] = {"type": "no such"}
    assert not openrpc_validator.is_valid(document)


@several
@pytest.mark.parametrize("urls", [[], ["amqp://user:secret@localhost/shop", "redis+stream://a,b", "ws://host:9000/ws"]])
def test_asyncapi_is_valid(services: Sequence[Service], urls: list[str], asyncapi_validator: Draft7Validator) -> None:
    asyncapi_validator.validate(asyncapi([contract_of(each) for each in services], urls))


def test_the_schema_of_asyncapi_refuses_what_is_not(asyncapi_validator: Draft7Validator) -> None:
    document = asyncapi([contract_of(shop)])
    document["operations"]["shop.fill"]["action"] = "answer"
    assert not asyncapi_validator.is_valid(document)


@several
def test_json_schema_is_valid(services: Sequence[Service]) -> None:
    Draft202012Validator.check_schema(json_schema([contract_of(each) for each in services]))
