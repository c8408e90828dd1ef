"""What the documents say of a service; whether they are valid is asked in tests/interop, of the published schemas."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jsonschema
import pytest

from rpckit import Service, codec
from rpckit.bodies import write_arguments
from rpckit.documents import asyncapi, json_schema, openrpc
from rpckit.documents._asyncapi import APP_ID, EVENTS_EXCHANGE
from rpckit.message import NATIVE
from rpckit.schema import contract_of
from rpckit.topics import event_topic
from rpckit_amqp import _mapping, _topology
from tests.every_type import service, shop

DOCUMENTS = [contract_of(service), contract_of(shop)]
Made = Callable[[Sequence[dict[str, Any]]], dict[str, Any]]


@pytest.mark.parametrize("made", [openrpc, asyncapi, json_schema])
def test_every_reference_leads_somewhere(made: Made) -> None:
    document = made(DOCUMENTS)
    references = set(references_in(document))
    assert references
    for reference in references:
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


@pytest.mark.parametrize("made", [openrpc, asyncapi, json_schema])
def test_it_is_json_and_leaves_the_contract_as_it_was(made: Made) -> None:
    before = json.dumps(DOCUMENTS)
    json.dumps(made(DOCUMENTS), allow_nan=False)
    assert json.dumps(DOCUMENTS) == before


def references_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references_in(each)


# --- OpenRPC ---------------------------------------------------------------------------------


def methods() -> dict[str, Any]:
    return {each["name"]: each for each in openrpc(DOCUMENTS)["methods"]}


def test_openrpc_names_methods_as_they_are_called() -> None:
    assert {"every/type.paint", "every/type.delete", "shop.fill"} <= methods().keys()


def test_openrpc_says_how_arguments_may_be_given() -> None:
    structures = {name.rpartition(".")[2]: each["paramStructure"] for name, each in methods().items()}
    assert (structures["buy"], structures["paint"], structures["delete"]) == ("either", "by-name", "by-position")


def test_openrpc_has_required_parameters_first() -> None:
    given = [(each["name"], each["required"]) for each in methods()["every/type.keywords"]["params"]]
    assert given == [("first", True), ("needed", True), ("second", False), ("table", False)]


def test_openrpc_has_defaults_beside_references() -> None:
    color = methods()["every/type.paint"]["params"][1]
    assert color["schema"] == {"allOf": [{"$ref": "#/components/schemas/Color"}], "default": "blue"}


def test_openrpc_has_declared_errors_with_the_numbers_of_the_wire() -> None:
    assert methods()["every/type.buy"]["errors"] == [
        {
            "code": -32000,
            "message": "There is not enough of it.",
            "data": {"code": "FAILED_PRECONDITION", "type": "OutOfStock"},
        },
        {"code": -32000, "message": "Nobody sells that.", "data": {"code": "UNKNOWN", "type": "NoSuchItem"}},
    ]


def test_openrpc_says_what_is_deprecated_and_what_has_no_answer() -> None:
    old = methods()["every/type.delete"]
    assert old["deprecated"] is True
    assert old["description"].endswith("Deprecated: use remove")
    assert "result" not in methods()["every/type.forget"]


def test_openrpc_of_nothing_is_a_document() -> None:
    assert openrpc([]) == {"openrpc": "1.3.2", "info": {"title": "nothing", "version": "0"}, "methods": []}


# --- AsyncAPI --------------------------------------------------------------------------------


def test_asyncapi_replies_go_where_the_request_says() -> None:
    document = asyncapi(DOCUMENTS)
    buy = document["operations"]["every_type.buy"]
    assert buy["action"] == "receive"
    assert document["channels"]["every_type"]["address"] == "every/type"
    assert buy["reply"]["address"] == {"location": "$message.header#/reply_to"}
    assert document["channels"]["every_type.replies"]["address"] is None
    answers = [each["$ref"].rpartition("/")[2] for each in buy["reply"]["messages"]]
    assert answers == ["buy.result", "OutOfStock.fault", "NoSuchItem.fault", "fault"]
    assert "reply" not in document["operations"]["every_type.forget"]


@pytest.mark.parametrize(
    "method,args,kwargs",
    [
        ("paint", ({"x": 1.0},), {}),
        ("paint", (), {"point": {"x": 1.0}, "color": "red", "level": None}),
        ("delete", (1, "yes"), {"fast": True}),
        ("keywords", (1,), {"needed": 1}),
        ("anything", (), {}),
    ],
)
def test_an_asyncapi_payload_is_the_body_that_a_client_writes(method: str, args: tuple[Any, ...], kwargs: Any) -> None:
    validator = payload_of(method)
    body, content_type = write_arguments(NATIVE, codec.JSON, args, kwargs)
    validator.validate(codec.decode(content_type, body))


@pytest.mark.parametrize(
    "method,body",
    [
        ("paint", {"args": [{"x": "far"}]}),
        ("paint", {"kwargs": {"point": {"x": 1}, "size": 1}}),
        ("delete", {"kwargs": {"fast": True}}),
        ("keywords", {"args": [1], "kwargs": {}}),
        ("anything", {"args": [1, 2]}),
        ("anything", [1]),
    ],
)
def test_an_asyncapi_payload_is_nothing_else(method: str, body: Any) -> None:
    validator = payload_of(method)
    assert not validator.is_valid(body)


def payload_of(method: str) -> jsonschema.Draft7Validator:
    document = asyncapi(DOCUMENTS)
    payload = document["channels"]["every_type"]["messages"][method]["payload"]
    return jsonschema.Draft7Validator({**payload, "components": document["components"]})


def test_asyncapi_has_one_channel_for_a_topic_and_an_operation_for_each_handler() -> None:
    document = asyncapi(DOCUMENTS)
    topic = document["channels"]["event.item_sold"]
    assert topic["address"] == event_topic("item/sold")
    assert list(topic["messages"]) == ["shop.on.item_sold", "shop.on.item_sold.mail"]
    assert "One of the group 'mail'" in document["operations"]["shop.on.item_sold.mail"]["description"]


def test_asyncapi_names_topics_and_marks_messages_as_the_transports_do() -> None:
    assert _mapping.APP_ID == APP_ID
    assert _topology.EVENTS.name == EVENTS_EXCHANGE


def test_asyncapi_says_what_other_programs_see_of_their_exchanges_and_channels() -> None:
    """No envelope: the body is the argument."""
    logs = Service("logs")

    @logs.on("topic:topic_logs/kern.*")
    @logs.on("channel:news")
    @logs.on("fanout:all")
    async def hear(line: str) -> None: ...

    channels = asyncapi([contract_of(logs)])["channels"]
    told = {channel["title"]: channel for channel in channels.values()}
    topic, channel = told["topic:topic_logs/kern.*"], told["channel:news"]
    assert (topic["address"], channel["address"], told["fanout:all"]["address"]) == ("kern.*", "news", "all")
    assert topic["bindings"]["amqp"]["exchange"] == {"name": "topic_logs", "type": "topic"}
    assert "bindings" not in channel
    (message,) = topic["messages"].values()
    assert message == {"name": topic["title"], "contentType": "text/plain", "payload": {"type": "string"}}


def test_names_that_look_alike_as_keys_stay_apart() -> None:
    one, other = Service("one", address="a/b"), Service("other", address="a_b")
    for each in (one, other):
        each.on("t/u" if each is one else "t_u")(heard)
        each.method(heard)
    document = asyncapi([contract_of(one), contract_of(other)])
    addresses = {key: channel["address"] for key, channel in document["channels"].items() if channel["address"]}
    assert addresses == {
        "a_b": "a/b",
        "a_b_2": "a_b",
        "event.t_u": "rpckit.event.t/u",
        "event.t_u_2": "rpckit.event.t_u",
    }
    assert len(document["operations"]) == 4


async def heard() -> None: ...


def test_asyncapi_servers_tell_no_secrets() -> None:
    servers = asyncapi(DOCUMENTS, ["amqps://user:secret@a:5671,b/shop?heartbeat=5", "redis+list://:secret@c"])[
        "servers"
    ]
    assert servers == {
        "server1": {"host": "a:5671", "protocol": "amqps", "pathname": "/shop"},
        "server2": {"host": "b", "protocol": "amqps", "pathname": "/shop"},
        "server3": {"host": "c", "protocol": "redis", "description": "redis+list"},
    }


# --- JSON Schema -----------------------------------------------------------------------------


def test_json_schema_has_types_arguments_and_results() -> None:
    document = json_schema(DOCUMENTS)
    jsonschema.Draft202012Validator.check_schema(document)
    assert {"Item", "Item_2", "Point", "every/type.paint.params", "every/type.paint.result"} <= document["$defs"].keys()
    assert "every/type.forget.result" not in document["$defs"]


@pytest.mark.parametrize(
    "name,good,bad",
    [
        ("paint.params", {"point": {"x": 1}, "color": "red"}, {"point": {"x": 1}, "color": "green"}),
        ("grow.result", {"value": 1, "children": [{"value": 2}]}, {"value": 1, "children": [{}]}),
        ("scalars.result", [1, 1.5, "a", True], [1, 1.5, "a"]),
        ("buy.result", None, {"sku": 1}),
    ],
)
def test_json_schema_validates_values(name: str, good: Any, bad: Any) -> None:
    document = json_schema(DOCUMENTS)
    validator = jsonschema.Draft202012Validator({**document["$defs"][f"every/type.{name}"], "$defs": document["$defs"]})
    assert validator.is_valid(good)
    assert not validator.is_valid(bad)
