"""The run on the terminal and as JSON."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .contenders import BY_NAME
from .figures import Figures
from .gates import Gate

__all__ = ["print_figures", "print_gates", "write_json"]

COLOURS = {"PASS": "green", "FAIL": "red", "OPEN": "yellow"}


def print_figures(console: Console, figures: Figures) -> None:
    """One section per number of callers and group, then what failed or was not there, then the soak."""
    table = Table(title="n -> n + 1, medians of the rounds")
    for heading in ("callers", "contender", "calls/s", "x floor", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if heading == "contender" else "right", no_wrap=True)
    for callers in figures.callers():
        for group in dict.fromkeys(BY_NAME[name].group for name in figures.samples):
            if rows := _rows(figures, callers, group):
                table.add_row("", f"[bold]{group}")
                for row in rows:
                    table.add_row(*row)
                table.add_section()
    console.print(table)
    for verb, reasons in (("failed", figures.failures), ("skipped", figures.skipped)):
        for name, reason in reasons.items():
            console.print(f"{BY_NAME[name].title}: {verb}, {reason}", markup=False)
    for name, soak in figures.soaks.items():
        for side in ("client", "server"):
            growth = soak.growth(side) / 1_000_000
            span = f"{soak.calls[0]:,} to {soak.calls[1]:,} calls"
            console.print(f"{BY_NAME[name].title}: {side} process, {span}: {growth:+.2f} MB")
    for name, each in figures.crowds.items():
        console.print(f"{BY_NAME[name].title}: {each / 1000:.1f} kB of the server for each idle peer")


def print_gates(console: Console, gates: list[Gate]) -> None:
    table = Table(title="gates")
    table.add_column("demand")
    table.add_column("found", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for gate in gates:
        table.add_row(gate.demand, gate.found, f"[{COLOURS[gate.verdict]}]{gate.verdict}")
    console.print(table)


def write_json(
    path: Path, machine: dict[str, object], settings: dict[str, object], figures: Figures, gates: list[Gate]
) -> None:
    """Everything that was measured, round by round, so that a run can be judged again."""
    stored = {
        "machine": machine,
        "settings": settings,
        "results": [_result(figures, name, callers) for name, rows in figures.samples.items() for callers in rows],
        "soaks": {name: asdict(soak) for name, soak in figures.soaks.items()},
        "crowds": figures.crowds,
        "failures": figures.failures,
        "skipped": figures.skipped,
        "gates": [{**asdict(gate), "verdict": gate.verdict} for gate in gates],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")


def _rows(figures: Figures, callers: int, group: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in figures.samples:
        contender, found = BY_NAME[name], figures.medians(name, callers)
        if found is None or contender.group != group:
            continue
        ratio = figures.ratio(name, contender.floor, callers)
        times = (f"{found.p50:.2f}", f"{found.p99:.2f}")
        rate, share = f"{found.rate:,.0f}", "-" if ratio is None else f"{ratio:.2f}"
        rows.append((str(callers), contender.label, rate, share, *times))
    return rows


def _result(figures: Figures, name: str, callers: int) -> dict[str, object]:
    medians = figures.medians(name, callers)
    assert medians
    return {
        "contender": name,
        "label": BY_NAME[name].title,
        "callers": callers,
        "calls_per_second": round(medians.rate, 1),
        "p50_ms": round(medians.p50, 4),
        "p99_ms": round(medians.p99, 4),
        "rounds": [asdict(sample) for sample in figures.samples[name][callers]],
    }
