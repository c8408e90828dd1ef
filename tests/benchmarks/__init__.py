"""The benchmark: floor, rpckit and peers side by side in one run.

    python -m tests.benchmarks                    five rounds, the soak, the table, the chart, the gates
    python -m tests.benchmarks --quick            a minute, to see that everything still runs
    python -m tests.benchmarks --gates            as above, and exit 1 when a gate is missed
    python -m tests.benchmarks --only floor --only rpckit_amqp --callers 64
    python -m tests.benchmarks --only redis                       all over Redis; or redis+list, amqp
    python -m tests.benchmarks --amqp-url amqp://localhost        a broker that already runs; so --redis-url

A server process and a client process are started for each contender, the brokers apart from both. Rounds are
interleaved (each visits every contender), so that a slow minute of the machine meets all of them; what is
reported is the median of the rounds. Nothing of another contender runs meanwhile.

`contenders/` who is measured; `worker` a process; `load` the closed loop; `processes` starts and ends them;
`brokers` what they talk through; `run` the order of things; `figures`, `gates` the arithmetic; `report`,
`chart`, `machine` what is shown and written.
"""
