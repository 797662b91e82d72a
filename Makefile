# The two commands of the README are `make demo` and `make test`; `make help` prints the others.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := shared services tests bench

.PHONY: help demo test check tests coverage test-engines test-containers bench bench-peer bench-web bench-release docs lock clean

help: ## show this
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-15s %s\n", $$1, $$2}'

demo: .venv/ready ## start everything, load three gene sources, serve them (ONCE=1: stop after the queries; RELEASE=2: an update)
	@$(BIN)/python examples/genes/demo.py $(if $(ONCE),--once) $(if $(RELEASE),--release $(RELEASE))

test: check tests ## check the code and run every test

check: .venv/ready ## ruff, mypy, import contracts
	@$(BIN)/ruff check $(PACKAGES)
	@$(BIN)/ruff format --check $(PACKAGES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

tests: .venv/ready
	@$(BIN)/python -m pytest -n 2 --dist loadfile

coverage: .venv/ready ## every test, counting the branches that they take; fails below the floor in pyproject.toml
	@rm -rf .coverage && mkdir .coverage
	@$(BIN)/python -m coverage run -m pytest -n 2 --dist loadfile
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

test-containers: .venv/ready ## images, compose and dying containers, under a container engine (minutes)
	@SOURCEBOOK_TEST_CONTAINERS=1 $(BIN)/python -m pytest -v --durations=0 tests/e2e/test_containers.py

test-engines: .venv/ready ## run the contracts on the real OpenSearch, MongoDB and Redis that this machine can have
	@$(BIN)/python tests/run_engines.py $(ARGS)

bench: .venv/ready ## measure every stage on a million generated documents; writes docs/benchmarks.md (ENGINES=production: on those)
	@$(BIN)/python bench/$(if $(filter production,$(ENGINES)),production,run).py $(ARGS)

bench-peer: .venv/ready ## the same beside BioThings' own command line
	@$(BIN)/python bench/run.py --peer $(ARGS)

bench-web: .venv/ready ## requests a second of the query API, beside BioThings' own web server
	@$(BIN)/python bench/web.py $(ARGS)

bench-release: .venv/ready ## what a release costs when a part of the documents changed, beside everything
	@$(BIN)/python bench/release.py --peer $(ARGS)

docs: .venv/ready ## write the generated pages of docs/
	@$(BIN)/python docs/generate.py

lock: .venv/ready ## pin the newest allowed versions of everything, with the hashes of their files
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links \
		--all-extras --group dev --generate-hashes --output-file requirements.lock --upgrade pyproject.toml

clean: ## remove what the commands above made
	rm -rf .venv .sourcebook .bench

.venv/ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sourcebook needs Python 3.11 or newer; set PYTHON=...")'
	@echo "installing into .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
