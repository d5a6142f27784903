# Everything a person or a CI machine types. `make help` lists it.

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint fix docs lock bench clean

PYTHON ?=
WAIT ?= 1
DATA ?=
DRIVER ?= auto
TESTS ?= tests
export PYTHON

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## install what is missing: system packages, nats-server, .venv, guest image (quick when all is there)
	@tools/setup.sh

demo: setup ## a real server through its life with the real client; WAIT=0 ends at once, DATA=DIR keeps its state
	@.venv/bin/python tools/demo.py --wait "$(WAIT)" --driver "$(DRIVER)" --data "$(DATA)"

test: ## lint, types, architecture, drift and every test; TESTS=PATH for some of them
	@tools/setup.sh --test
	@tools/test.sh $(TESTS)

lint: setup ## only the checks that run no test
	@tools/lint.sh

fix: ## format the code and mend what ruff can mend
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: ## write the generated documents anew: the machine, and the comparison with Nova (about a minute)
	.venv/bin/python -m domain.machine.render --write docs/machine
	.venv/bin/python -m tests.conformance.report --write >/dev/null

lock: ## resolve the dependencies anew into requirements.lock
	tools/lock.sh

bench: setup ## measure (see docs); ARGS="SCENARIO... --json FILE"
	@.venv/bin/chronova bench $(ARGS)

clean: ## remove what setup and the checks made here
	rm -rf .venv .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
