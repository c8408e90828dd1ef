"""What is counted of calls, and what is said of it."""

from __future__ import annotations

from rpckit import Service
from rpckit.contract import MethodSpec
from rpckit.stats import LAST, MAX_CODES, CallStats, MethodStats, percentile, report


def shop() -> Service:
    service = Service("shop", address="orders")

    @service.method
    async def place() -> None: ...

    @service.on("user.created")
    async def welcome() -> None: ...

    return service


def spec(service: Service) -> MethodSpec:
    return service.methods["place"]


def test_a_percentile_is_a_value_that_was_there() -> None:
    assert [percentile([1.0], each) for each in (50, 99)] == [1.0, 1.0]
    assert [percentile([1.0, 2.0], each) for each in (50, 99)] == [1.0, 2.0]
    hundred = [float(each) for each in range(1, 101)]
    assert [percentile(hundred, each) for each in (0, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]


def test_every_method_has_an_entry_before_it_is_called() -> None:
    entries = report(CallStats(), [shop()], [])
    assert [(each["address"], each["method"], each.get("event")) for each in entries] == [
        ("orders", "place", None),
        ("orders", "welcome", "user.created"),
    ]
    assert {key: entries[0][key] for key in ("calls", "errors", "in_flight", "wait_ms", "run_ms")} == {
        "calls": 0,
        "errors": {},
        "in_flight": 0,
        "wait_ms": None,
        "run_ms": None,
    }


def test_times_are_in_milliseconds_and_refusals_have_none() -> None:
    service, stats = shop(), CallStats()
    stats.of(spec(service)).ended(0.001, 0.25)
    stats.of(spec(service)).failed("INTERNAL")
    stats.of(spec(service)).refused("RESOURCE_EXHAUSTED")
    entry = report(stats, [service], [spec(service), spec(service)])[0]
    assert (entry["calls"], entry["in_flight"]) == (2, 2)
    assert entry["errors"] == {"INTERNAL": 1, "RESOURCE_EXHAUSTED": 1}
    assert (entry["wait_ms"], entry["run_ms"]) == ({"p50": 1.0, "p99": 1.0}, {"p50": 250.0, "p99": 250.0})


def test_what_named_no_method_is_counted_apart() -> None:
    service, stats = shop(), CallStats()
    stats.of(service).refused("UNIMPLEMENTED")
    stats.of(None).refused("UNIMPLEMENTED")
    nameless = [each for each in report(stats, [service], []) if not each["method"]]
    assert [(each["address"], each["calls"]) for each in nameless] == [("orders", 1), ("", 1)]
    assert [each["address"] for each in report(stats, [service], [], "orders")] == ["orders"] * 3
    assert report(stats, [service], [], "elsewhere") == []


def test_only_the_last_times_are_kept() -> None:
    stats = MethodStats()
    for number in range(LAST + 5):
        stats.ended(0.0, float(number))
    assert (stats.calls, len(stats.runs), min(stats.runs)) == (LAST + 5, LAST, 5.0)


def test_codes_of_strangers_are_bounded() -> None:
    stats = MethodStats()
    for number in range(2 * MAX_CODES):
        stats.failed(f"CODE_{number}")
    assert len(stats.errors) == MAX_CODES + 1
    assert stats.errors["OTHER"] == MAX_CODES
