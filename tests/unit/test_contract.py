"""What a service promises, and what its methods make of their arguments."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from rpckit.context import Context
from rpckit.contract import (
    MAX_NAME_BYTES,
    MethodSpec,
    Service,
    check_address,
    compile_method,
    split_target,
)
from rpckit.errors import InvalidArgument, UsageError
from rpckit.message import Kind, Message


async def fib(n: int) -> int:
    """The n-th Fibonacci number."""
    return n


async def several(a: int, b: str = "b") -> str:
    return b * a


@dataclass
class Point:
    x: int
    y: int


class Order(BaseModel):
    at: datetime.date


def spec_of(function: Any) -> MethodSpec:
    return compile_method(function)


# -- services ---------------------------------------------------------------------------------


def test_a_service_lives_at_its_name_unless_told_otherwise() -> None:
    assert Service("fibonacci").address == "fibonacci"
    assert Service("fibonacci", address="rpc_queue").address == "rpc_queue"


def test_method_leaves_the_function_as_it_is() -> None:
    service = Service("s")
    assert service.method(fib) is fib
    assert service.method(name="other", idempotent=True)(fib) is fib
    assert [spec.idempotent for spec in service.methods.values()] == [False, True]
    assert service.methods["other"].doc == "The n-th Fibonacci number."


def test_the_only_method_is_the_default_one() -> None:
    service = Service("s")
    assert service.find("") is None
    service.method(fib)
    assert service.find("") is service.find("fib")
    service.method(several)
    assert service.find("") is None


def test_a_marked_method_is_the_default_of_several() -> None:
    service = Service("s")
    service.method(fib)
    service.method(default=True)(several)
    assert service.default_method is service.methods["several"]


def test_methods_are_found_by_their_exact_name_only() -> None:
    service = Service("s")
    service.method(fib)
    for name in ("Fib", "fib ", "__init__", "fib.__call__", "_add"):
        assert service.find(name) is None


def test_two_methods_of_one_name_are_refused() -> None:
    service = Service("s")
    service.method(fib)
    with pytest.raises(UsageError, match="already has a method 'fib'"):
        service.method(fib)


def test_two_default_methods_are_refused() -> None:
    service = Service("s")
    service.method(default=True)(fib)
    with pytest.raises(UsageError, match="only one can be"):
        service.method(default=True)(several)


def test_on_registers_handlers_of_events_and_leaves_the_function_as_it_is() -> None:
    service = Service("s")
    service.method(fib)
    assert service.on("user.created")(fib) is fib  # a method of the same name is another thing
    assert service.on("user.created")(fib) is fib
    assert service.on("user.created", group="billing")(several) is several
    assert [(event.topic, event.group, event.spec.name) for event in service.events] == [
        ("user.created", "", "fib"),
        ("user.created", "", "fib"),
        ("user.created", "billing", "several"),
    ]
    assert all(event.spec.no_reply for event in service.events)
    assert list(service.methods) == ["fib"]
    assert service.default_method is service.find("fib")


@pytest.mark.parametrize("topic", ["", "user|created", "x" * 241, fib])
def test_a_topic_no_transport_could_carry_is_refused(topic: Any) -> None:
    service = Service("s")
    with pytest.raises(UsageError, match=r"topic .* cannot be used: 1 to 240 ASCII letters"):
        service.on(topic)
    with pytest.raises(UsageError, match=r"group .* cannot be used"):
        service.on("user.created", group="a|b")


def test_a_service_is_in_a_group_once() -> None:
    service = Service("s")
    service.on("user.created", group="billing")(fib)
    service.on("user.created", group="mail")(fib)
    service.on("user.deleted", group="billing")(fib)
    with pytest.raises(UsageError, match=r"already hears 'user\.created' in the group 'billing'"):
        service.on("user.created", group="billing")


def test_a_generator_cannot_hear_events() -> None:
    async def stream() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(UsageError, match="generators cannot be served"):
        Service("s").on("user.created")(stream)


def test_from_object_exposes_public_async_methods_bound_to_it() -> None:
    class Calculator:
        def __init__(self) -> None:
            self.base = 10

        async def add(self, a: int) -> int:
            return self.base + a

        async def _hidden(self) -> None: ...

        def plain(self) -> None: ...

        @property
        def value(self) -> int:
            raise AssertionError("properties are not touched")

    service = Service.from_object(Calculator(), name="calculator")
    assert list(service.methods) == ["add"]
    assert service.methods["add"].validate((["1"], {})) == ((1,), {})


def test_from_object_without_public_methods_is_refused() -> None:
    with pytest.raises(UsageError, match="no public async methods"):
        Service.from_object(object(), name="nothing")


def test_from_object_of_a_class_asks_for_an_instance() -> None:
    with pytest.raises(UsageError, match=r"takes an instance, such as Calculator\(…\)"):
        Service.from_object(Calculator, name="calculator")


# -- what can be served -------------------------------------------------------------------------


async def with_varargs(*numbers: int) -> None: ...


async def with_kwargs(**options: int) -> None: ...


async def stream() -> Any:
    yield 1


async def with_lost_name(a: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
    ...


async def with_misspelt_type(a: datetime.datetme) -> None:  # type: ignore[name-defined]
    ...


async def with_half_a_type(a: "list[int") -> None:  # type: ignore[valid-type]  # noqa: F722
    ...


async def with_impossible_type(a: 5 | "x") -> None:  # type: ignore[name-defined, valid-type]  # noqa: F821, UP037
    ...


class Calculator:
    async def add(self, a: int) -> int:
        return a

    async def __call__(self, a: int) -> int:
        return a


class Opaque: ...


async def unknown_type(a: Opaque) -> None: ...


@pytest.mark.parametrize(
    "function, options, words",
    [
        (with_varargs, {}, r"\*numbers cannot be described"),
        (with_kwargs, {}, r"\*options cannot be described"),
        (stream, {}, "generators cannot be served yet"),
        (with_lost_name, {}, "name something that cannot be found"),
        (with_misspelt_type, {}, "name something that cannot be found: .*'datetme'"),
        (with_half_a_type, {}, "^with_half_a_type: its annotations cannot be read: "),
        (with_impossible_type, {}, "^with_impossible_type: its annotations cannot be read: "),
        ("place", {}, "a method is a function, not 'place': decorate a def, and say its name as name=…"),
        (partial(several, 1), {"name": "some"}, "a method is a function, not functools.partial"),
        (Calculator(), {"name": "some"}, "a method is a function, not <.*Calculator object"),
        (datetime, {}, "datetime cannot be served: <module 'datetime'.*> is not a callable object"),
        (Calculator.add, {}, "add takes self: serve it of an instance, with Service.from_object or service.method"),
        (fib, {"name": "__init__"}, "cannot be a method's name"),
        (fib, {"name": "a.b"}, "cannot be a method's name"),
        (fib, {"name": "1st"}, "cannot be a method's name"),
        (fib, {"name": "größe"}, "cannot be a method's name: ASCII letters, digits and _"),
        (fib, {"name": "$reply"}, "cannot be a method's name"),
        (fib, {"name": "n" * (MAX_NAME_BYTES + 1)}, "cannot be a method's name"),
        (unknown_type, {}, "cannot be checked: .*<class '.*Opaque'>. Take a dataclass, a model or a dict$"),
        (fib, {"idempotnet": True}, "unknown option 'idempotnet'; known: .*idempotent"),
        (fib, {"delivery": "at_least_once"}, "must be idempotent=True"),
        (fib, {"delivery": "at_leest_once"}, "delivery is at_most_once or at_least_once, not 'at_leest_once'"),
        (fib, {"timeout": "5"}, "timeout is in seconds, more than 0, or None; not '5'"),
        (fib, {"timeout": float("nan")}, "timeout is in seconds, more than 0, or None; not nan"),
        (fib, {"timeout": 0}, "timeout is in seconds, more than 0, or None; not 0"),
        (fib, {"deprecated": True}, "deprecated says in words what to use instead; not True"),
        (fib, {"raises": KeyError}, "raises takes classes of exceptions, in a list; not <class 'KeyError'>"),
    ],
)
def test_what_cannot_be_served_is_refused_when_the_service_is_built(
    function: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        compile_method(function, **options)


def test_plain_functions_run_in_a_thread() -> None:
    def plain() -> None: ...

    assert spec_of(plain).in_thread
    assert not spec_of(fib).in_thread


@pytest.mark.parametrize("address", ["", "a" * 241, "umläut", "a{b}", "a\n", "a*b", "a?b"])
def test_an_address_that_not_every_broker_can_carry_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        check_address(address)


@pytest.mark.parametrize("address", ["rpc_queue", "channel:test-channel", "a.b.c", "x" * 240, "a b/c@d#e,f+g"])
def test_usual_addresses_are_taken_as_they_are(address: str) -> None:
    assert check_address(address) == address


def test_the_last_dot_parts_address_and_method() -> None:
    assert split_target("rpc_queue.fib") == ("rpc_queue", "fib")
    assert split_target("list:a.b.fib") == ("list:a.b", "fib")


@pytest.mark.parametrize("target", ["fib", ".fib", "rpc_queue.", "rpc_queue.1", "q.a-b", ""])
def test_a_target_without_address_or_method_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match=r"not ADDRESS\.METHOD"):
        split_target(target)


@pytest.mark.parametrize("target, told", [("audit", True), ("rpc_queue.1", False), ("", False)])
def test_a_target_that_is_an_address_alone_is_told_how_its_default_method_is_called(target: str, told: bool) -> None:
    with pytest.raises(UsageError) as caught:
        split_target(target)
    assert ("; its default method is called by client.at('audit').call(…)" in str(caught.value)) is told


# -- arguments ----------------------------------------------------------------------------------


def test_arguments_are_converted_to_the_annotated_types() -> None:
    async def method(at: datetime.datetime, point: Point, order: Order, tags: set[str]) -> None: ...

    args, kwargs = spec_of(method).validate(
        (["2026-01-02T03:04:05"], {"point": {"x": 1, "y": 2}, "order": {"at": "2026-01-02"}, "tags": ["a"]})
    )
    assert args == (datetime.datetime(2026, 1, 2, 3, 4, 5),)
    assert kwargs == {"point": Point(1, 2), "order": Order(at=datetime.date(2026, 1, 2)), "tags": {"a"}}


def test_what_is_left_out_is_the_functions_default() -> None:
    assert spec_of(several).validate((["2"], {})) == ((2,), {"b": "b"})


@pytest.mark.parametrize(
    "args, kwargs, argument",
    [
        ([], {}, "n"),
        (["many"], {}, "n"),
        ([1, 2], {}, "1"),
        ([1], {"n": 1}, "n"),
        ([1], {"m": 1}, "m"),
        ([], {"n": [1]}, "n"),
    ],
)
def test_arguments_that_do_not_fit_are_named(args: list[Any], kwargs: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        spec_of(fib).validate((args, kwargs))
    assert caught.value.details is not None
    assert argument in [each["argument"] for each in caught.value.details["errors"]]


def test_every_bad_argument_is_named_at_once_with_its_place_inside() -> None:
    async def method(points: list[Point], n: int) -> None: ...

    with pytest.raises(InvalidArgument) as caught:
        spec_of(method).validate(([[{"x": 1, "y": 2}, {"x": "no", "y": 2}], "x"], {}))
    assert caught.value.details is not None
    assert [each["argument"] for each in caught.value.details["errors"]] == ["points.1.x", "n"]


def test_errors_do_not_repeat_what_was_sent() -> None:
    with pytest.raises(InvalidArgument) as caught:
        spec_of(fib).validate((["secret-password"], {}))
    assert "secret" not in f"{caught.value} {caught.value.details}"


def test_a_context_parameter_is_not_an_argument() -> None:
    async def method(a: int, ctx: Context) -> None: ...

    spec = spec_of(method)
    assert list(spec.parameters) == ["a"]
    with pytest.raises(InvalidArgument):
        spec.validate(([1], {"ctx": 1}))


CONTEXT = Context(Message(Kind.REQUEST), "s", "m", None)


async def context_first(ctx: Context, a: int, b: int = 0) -> tuple[int, int, Context]:
    return a, b, ctx


async def context_last(a: int, b: int, ctx: Context) -> tuple[int, int, Context]:
    return a, b, ctx


async def context_between(a: int, ctx: Context, b: int) -> tuple[int, int, Context]:
    return a, b, ctx


async def context_by_name(a: int, b: int, *, ctx: Context) -> tuple[int, int, Context]:
    return a, b, ctx


async def context_positional_only(ctx: Context, a: int, /, b: int) -> tuple[int, int, Context]:
    return a, b, ctx


@pytest.mark.parametrize(
    "function, args, kwargs",
    [
        *[
            (function, args, kwargs)
            for function in (context_first, context_last, context_between, context_by_name)
            for args, kwargs in (([1, 2], {}), ([1], {"b": 2}), ([], {"a": 1, "b": 2}))
        ],
        (context_positional_only, [1, 2], {}),
        (context_positional_only, [1], {"b": 2}),
    ],
)
async def test_the_context_goes_to_its_place_wherever_that_is(
    function: Any, args: list[int], kwargs: dict[str, int]
) -> None:
    spec = spec_of(function)
    args_given, kwargs_given = spec.add_context(spec.validate((args, kwargs)), CONTEXT)
    assert await function(*args_given, **kwargs_given) == (1, 2, CONTEXT)


def test_declared_errors_are_classes_with_names_of_their_own() -> None:
    async def pay() -> None: ...

    with pytest.raises(UsageError, match="raises takes classes of exceptions"):
        compile_method(pay, raises=["InsufficientFunds"])
    with pytest.raises(UsageError, match="the same name"):
        compile_method(pay, raises=[type("Same", (Exception,), {}), type("Same", (Exception,), {})])
    service = Service("bank")
    service.method(raises=[type("Same", (Exception,), {})])(pay)
    with pytest.raises(UsageError, match="another error 'Same'"):
        service.method(name="other", raises=[type("Same", (Exception,), {})])(pay)
