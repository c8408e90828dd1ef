"""AsyncAPI: the messages of services as brokers carry them, for documentation and other languages. Pure.

AsyncAPI 3.0 (www.asyncapi.com/docs/reference/specification/v3.0.0), whose schemas are JSON Schema, draft 7. Headers are
the envelope: message properties on AMQP, fields before the body elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from rpckit.codec import JSON, MSGPACK
from rpckit.documents._openrpc import described, info
from rpckit.documents._types import Types, draft_7, object_of, with_default
from rpckit.errors import Code
from rpckit.schema import Document, Schema
from rpckit.topics import EVENTS, foreign_topic
from rpckit.url import Url

__all__ = ["asyncapi"]

VERSION = "3.0.0"
AMQP_BINDING = "0.3.0"
EVENTS_EXCHANGE = "rpckit.events"  # of AMQP
APP_ID = "rpckit/1"  # of AMQP: what has it not is read as a foreign program's
ENVELOPE = (
    "The envelope. On AMQP these are properties of the message, `method` being `type`, and `app_id` must be there; "
    "elsewhere they are fields before the body."
)
TEXT: Schema = {"type": "string"}
CORRELATION = {"location": "$message.header#/correlation_id"}
BODY = (
    "An argument stands in `args` at its position or in `kwargs` by its name, not in both; those with a default may be "
    "left out. `application/json` is answered in kind."
)
FAULT: Schema = {
    "type": "object",
    "properties": {
        "code": {"enum": [str(code) for code in Code]},
        "message": TEXT,
        "type": {"type": "string", "description": "The exception's name."},
        "details": {"type": ["object", "null"]},
        "retryable": {"type": "boolean", "description": "Trying again may help."},
        "origin": {"enum": ["handler", "rpckit"], "description": "Who says so; with `rpckit`, the call was refused."},
        "error_id": {"type": ["string", "null"], "description": "Finds the error in the server's log."},
    },
    "required": ["code", "message"],
}


def asyncapi(documents: Sequence[Document], urls: Sequence[str] = ()) -> dict[str, Any]:
    """The AsyncAPI document of some contracts: requests with their replies, and events, as a server receives them.

    urls: where the services are reached. What could be a secret in them (user, password, options) is left out.
    """
    writer = _Writer(documents)
    for index, document in enumerate(documents):
        writer.service(index, document)
    servers = dict(_servers(urls))
    schemas = {name: draft_7(schema) for name, schema in writer.types.definitions.items()}
    return {
        "asyncapi": VERSION,
        "info": info(documents),
        "defaultContentType": MSGPACK,
        **({"servers": servers} if servers else {}),
        "channels": writer.channels,
        "operations": writer.operations,
        "components": {"schemas": {**schemas, writer.fault: FAULT}},
    }


class _Writer:
    """Channels and operations, service after service."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.types = Types(documents, "#/components/schemas/")
        self.fault = _free("Fault", self.types.definitions)
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}

    def service(self, index: int, document: Document) -> None:
        if document["methods"]:
            self._calls(index, document)
        for event in document["events"]:
            self._event(index, document, event)

    # -- calls ----------------------------------------------------------------------------------

    def _calls(self, index: int, document: Document) -> None:
        address = document["address"]
        channel = _free(_key(address), self.channels)
        replies = _free(f"{channel}.replies", self.channels)
        queue = {"is": "queue", "queue": {"name": address}, "bindingVersion": AMQP_BINDING}
        methods = document["methods"].items()
        about = {"description": document["doc"]} if document["doc"] else {}
        requests = {name: self._request(index, name, method) for name, method in methods}
        self.channels[channel] = {"address": address, **about, "messages": requests, "bindings": {"amqp": queue}}
        if not all(method["no_reply"] for _, method in methods):
            self.channels[replies] = {
                "address": None,
                "description": "Where the caller is reached: what its request says in `reply_to`.",
                "messages": dict(self._answers(index, document)),
            }
        for name, method in methods:
            operation = {
                "action": "receive",
                "channel": _ref("channels", channel),
                **described(method),
                "messages": [_ref("channels", channel, "messages", name)],
                **({"reply": self._reply(replies, name, method)} if not method["no_reply"] else {}),
            }
            self.operations[_free(f"{channel}.{name}", self.operations)] = operation

    def _request(self, index: int, name: str, method: Document) -> dict[str, Any]:
        answered = [] if method["no_reply"] else ["correlation_id", "reply_to"]
        headers = _envelope(["method", *answered], method={"const": name}, message_id=TEXT, reply_to=TEXT)
        return {
            "name": name,
            **described(method),
            "headers": headers,
            "correlationId": CORRELATION,
            "payload": self._body(index, method["parameters"]),
            "bindings": _message_type(name),
        }

    def _answers(self, index: int, document: Document) -> Iterator[tuple[str, Any]]:
        for name, method in document["methods"].items():
            if not method["no_reply"]:
                result = draft_7(self.types.schema(index, method["result"]))
                yield f"{name}.result", _answer(f"{name}.result", "$reply", result)
        fault = _ref("components", "schemas", self.fault)
        yield "fault", {**_answer("fault", "$fault", fault), "summary": "The call failed."}
        for name, error in document["errors"].items():
            told = {"code": {"const": error["code"]}, "type": {"const": name}}
            payload = {"allOf": [fault, {"type": "object", "properties": told, "required": ["type"]}]}
            about = {"description": error["doc"]} if error["doc"] else {}
            yield f"{name}.fault", {**_answer(name, "$fault", payload), **about}

    def _reply(self, channel: str, name: str, method: Document) -> dict[str, Any]:
        answers = [f"{name}.result", *(f"{error}.fault" for error in method["raises"]), "fault"]
        return {
            "address": {"location": "$message.header#/reply_to"},
            "channel": _ref("channels", channel),
            "messages": [_ref("channels", channel, "messages", each) for each in answers],
        }

    # -- events ---------------------------------------------------------------------------------

    def _event(self, index: int, document: Document, event: Document) -> None:
        """Several may hear one topic: they share its channel."""
        topic = event["topic"]
        channel = f"event.{_key(topic)}"
        if self.channels.get(channel, {}).get("title") != topic:
            channel = _free(channel, self.channels)
            self.channels[channel] = _topic_channel(topic)
        messages = self.channels[channel]["messages"]
        heard_by = ".".join(
            part for part in (_key(document["address"]), "on", _key(topic), _key(event["group"])) if part
        )
        operation = _free(heard_by, self.operations)
        told = self._told_plainly if foreign_topic(topic) else self._told
        messages[operation] = {"name": topic, **told(index, event["parameters"])}
        whom = f"One of the group {event['group']!r} hears it." if event["group"] else "Every handler hears it."
        self.operations[operation] = {
            "action": "receive",
            "channel": _ref("channels", channel),
            "description": "\n\n".join(part for part in (event["doc"], f"{whom} At most once.") if part),
            "messages": [_ref("channels", channel, "messages", operation)],
        }

    def _told(self, index: int, parameters: Sequence[Document]) -> dict[str, Any]:
        payload, headers = self._body(index, parameters), _envelope([], message_id=TEXT)
        return {"headers": headers, "payload": payload, "bindings": _message_type("$event")}

    def _told_plainly(self, index: int, parameters: Sequence[Document]) -> dict[str, Any]:
        """On an exchange or channel of other programs: the body is the argument, or an object of several."""
        schemas = {each["name"]: draft_7(self.types.schema(index, each["schema"])) for each in parameters}
        payload = next(iter(schemas.values())) if len(schemas) == 1 else object_of(parameters, schemas)
        return {"contentType": "text/plain" if payload == TEXT else JSON, "payload": payload}

    # -- bodies ---------------------------------------------------------------------------------

    def _body(self, index: int, parameters: Sequence[Document]) -> Schema:
        """The native form; which of the two ways an argument goes is left to the caller, unless its kind says."""
        schemas = {
            each["name"]: draft_7(with_default(each, self.types.schema(index, each["schema"]))) for each in parameters
        }
        by_place = [each for each in parameters if each["kind"] != "keyword"]
        by_name = [each for each in parameters if each["kind"] != "positional_only"]
        at_least = sum(each["kind"] == "positional_only" and each["required"] for each in parameters)
        args: Schema = {"type": "array", "maxItems": len(by_place)}
        if by_place:  # draft 7 wants one or more
            args |= {"items": [schemas[each["name"]] for each in by_place], "minItems": at_least}
        kwargs = object_of(by_name, schemas)
        kwargs["required"] = [each["name"] for each in by_name if each["kind"] == "keyword" and each["required"]]
        needed = [*(["args"] if at_least else []), *(["kwargs"] if kwargs["required"] else [])]
        body = {"type": "object", "description": BODY, "properties": {"args": args, "kwargs": kwargs}}
        return {**body, "required": needed} if needed else body


def _envelope(required: Sequence[str], **fields: Schema) -> Schema:
    properties = {**fields, "correlation_id": TEXT, "app_id": {"const": APP_ID}}
    return {"type": "object", "description": ENVELOPE, "properties": properties, "required": list(required)}


def _answer(name: str, kind: str, payload: Schema) -> dict[str, Any]:
    return {
        "name": name,
        "headers": _envelope(["correlation_id"]),
        "correlationId": CORRELATION,
        "payload": payload,
        "bindings": _message_type(kind),
    }


def _topic_channel(topic: str) -> dict[str, Any]:
    exchange = {"name": EVENTS_EXCHANGE, "type": "topic", "durable": True, "autoDelete": False}
    address, foreign = EVENTS + topic, foreign_topic(topic)
    if foreign is not None and foreign.kind == "channel":
        return {"title": topic, "address": foreign.name, "messages": {}}
    if foreign is not None:
        address, exchange = foreign.key or foreign.name, {"name": foreign.name, "type": foreign.kind}
    binding = {"is": "routingKey", "exchange": exchange, "bindingVersion": AMQP_BINDING}
    return {"title": topic, "address": address, "messages": {}, "bindings": {"amqp": binding}}


def _message_type(kind: str) -> dict[str, Any]:
    """AMQP's property `type`."""
    return {"amqp": {"messageType": kind, "bindingVersion": AMQP_BINDING}}


def _servers(urls: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """One for each host."""
    parsed = [Url.parse(text) for text in urls]
    hosts = [(url, host) for url in parsed for host in url.hosts]
    for number, (url, host) in enumerate(hosts, 1):
        protocol = url.scheme.partition("+")[0]
        path = {"pathname": f"/{url.path}"} if url.path else {}
        kind = {"description": url.scheme} if url.scheme != protocol else {}
        yield f"server{number if len(hosts) > 1 else ''}", {"host": str(host), "protocol": protocol, **path, **kind}


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}


def _key(name: str) -> str:
    """A name as a key: what a JSON pointer or a tool may stumble over is `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _free(key: str, taken: Any) -> str:
    """`key`, or with a number what nobody has yet."""
    number = 1
    while (found := key if number == 1 else f"{key}_{number}") in taken:
        number += 1
    return found
