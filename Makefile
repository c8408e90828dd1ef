# One command per task, the same for people and for CI.
#
#     make test PYTHON=python3.13      any task with another interpreter; each has its own .venv/…

PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench up down

help:  ## What there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## A virtual environment with everything in it; prints where
	@scripts/venv "$(PYTHON)" test,check,bench

demo:  ## The bundled Fibonacci server and client, on every transport that can run here
	@scripts/demo "$(PYTHON)"

test:  ## Everything that must hold: check with more examples, then the whole suite on both event loops
	@scripts/test "$(PYTHON)"

check:  ## Lint, format, types, imports and the unit tests
	@scripts/check "$(PYTHON)"

bench:  ## Measure this library beside its floor and its peers
	@bin=$$(scripts/venv "$(PYTHON)" bench) && exec "$$bin/python" -m tests.benchmarks $(ARGS)

up:  ## Brokers in Docker, on loopback
	@docker compose up --detach --wait

down:  ## Stop them and forget their data
	@docker compose down --volumes
