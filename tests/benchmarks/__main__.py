"""The command line of the benchmark; see the package's docstring."""

import argparse
import asyncio
import sys
from pathlib import Path

from rich.console import Console

from .brokers import brokers
from .chart import draw
from .contenders import CONTENDERS, named
from .gates import judge
from .machine import describe
from .report import print_figures, print_gates, write_json
from .run import Plan, run

RESULTS = Path(__file__).parent / "results"
FIGURES, CHART = RESULTS / "latest.json", RESULTS / "chart.svg"
SOAK = (50_000, 200_000)  # calls
WORDS = list(dict.fromkeys(word for c in CONTENDERS for word in (c.name, c.broker, c.scheme) if word))


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="floor, rpckit and its peers")
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="rounds, each through all contenders (%(default)s)")
    add("--seconds", type=float, default=1.0, help="seconds per measurement (%(default)s)")
    add("--callers", type=int, nargs="+", default=[1, 16, 64, 256], help="concurrent callers (%(default)s)")
    add("--only", action="append", choices=WORDS, metavar="NAME", help=f"may be repeated: {', '.join(WORDS)}")
    add("--amqp-url", help="use this RabbitMQ instead of starting one")
    add("--redis-url", help="use this Redis instead of starting one")
    add("--json", type=Path, metavar="FILE", help=f"where the figures go (of a whole run, results/{FIGURES.name})")
    add("--chart", type=Path, metavar="FILE", help=f"where the chart goes (of a whole run, results/{CHART.name})")
    add("--no-soak", action="store_true", help="leave out the memory soak")
    add("--quick", action="store_true", help="1 round of 0.5 s with 1 and 64 callers, no soak")
    add("--gates", action="store_true", help="exit 1 when a gate is missed")
    return parser


def plan_of(args: argparse.Namespace) -> Plan:
    wanted = [contender for word in args.only or () for contender in named(word)]
    contenders = [c for c in CONTENDERS if not args.only or c in wanted]
    if args.quick:
        return Plan(contenders, callers=[1, 64], rounds=1, seconds=0.5, soak=None)
    return Plan(contenders, args.callers, args.rounds, args.seconds, soak=None if args.no_soak else SOAK)


async def bench(args: argparse.Namespace, console: Console) -> int:
    plan = plan_of(args)
    async with brokers(plan.contenders, args.amqp_url, args.redis_url) as found:
        machine = await describe(found.amqp, found.redis)
        figures = await run(plan, found, lambda line: console.print(line, style="dim", markup=False))
    gates = judge(figures, [contender.name for contender in plan.contenders])
    settings: dict[str, object] = {"rounds": plan.rounds, "seconds": plan.seconds, "callers": plan.callers}
    print_figures(console, figures)
    whole = not (args.only or args.quick)  # else it is not what the README shows
    if path := args.json or (whole and FIGURES):
        write_json(path, machine, settings, figures, gates)
    if path := args.chart or (whole and CHART):
        draw(path, figures, _caption(machine, plan))
    print_gates(console, gates)
    return 1 if args.gates and (not gates or any(gate.failed for gate in gates)) else 0


def _caption(machine: dict[str, object], plan: Plan) -> str:
    rounds = f"median of {plan.rounds} interleaved rounds"
    where = f"client, server and broker on {machine['cores']} cores"
    return f"n → n + 1, {rounds}; {where}; {machine['python']}, {machine['broker'] or 'no broker'}"


def main() -> int:
    try:
        return asyncio.run(bench(options().parse_args(), Console()))
    except KeyboardInterrupt:
        return 130  # as a shell reports it; every process has been ended on the way here


if __name__ == "__main__":
    sys.exit(main())
