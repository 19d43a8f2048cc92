# make run     environment, then the embedded study, then the report's path; ARGS="proxy=data50" overrides
# make test    environment, then every check that gates
# make check   a developer's fast loop: linters and fast tests
# make slow    the tests that take minutes
# make wheel   the wheel in an empty environment: runs the debug study there, from an empty folder
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# three on two cores: many tests wait for processes that they start
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=20

.PHONY: run test check slow lint wheel install install-dev clean

run: install
	$(BIN)/python run.py $(ARGS)

test: lint
	$(PYTEST) -m "not slow"

check: lint
	$(PYTEST) -m "not slow and not gate"

slow: install-dev
	$(PYTEST) -m slow

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: install-dev
	rm -rf dist build/wheel
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv build/wheel/env
	build/wheel/env/bin/python -m pip install --quiet --disable-pip-version-check dist/nasproxy-*.whl
	mkdir build/wheel/empty
	cd build/wheel/empty && ../env/bin/nasproxy --version && ../env/bin/nasproxy experiment=debug
	@echo "wheel: its debug study ran in an empty environment, from an empty folder"

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "nasproxy needs Python 3.10 to 3.13, got $$($(PYTHON) --version 2>&1): make PYTHON=python3.12 run"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "nasproxy needs Python's venv module: on Debian, apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist studies
