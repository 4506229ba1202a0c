# make demo: a real sweep from data to figure. make test: lint, types and tests. make docs: the site.
# All set up .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.safesweep-installed

.PHONY: setup demo lint types test test-ablations test-all docs clean

setup: $(STAMP)

# torch comes first through pip, which takes a build for this machine (a GPU build from the default
# index); uv then resolves the rest, because only it can override the pins of dsrl and
# safety-gymnasium (see [tool.uv] in pyproject.toml). Where Python may not write bytecode, as in many
# containers, every worker would compile what it imports: it is done once, here.
# The simulators are for Python 3.11; on later ones pip installs the core, at the newest versions that
# pyproject.toml allows, and what needs a simulator says so.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
		|| { echo "safesweep needs Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -c 'import torch' 2>/dev/null \
		|| $(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	if $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] > (3, 11))'; then \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode \
			--constraint constraints.txt --editable '.[dev,docs,simulators,metadrive]'; \
	else \
		$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,docs]'; \
	fi
	touch $(STAMP)

DEMO_STORE := results/demo

demo: setup
	$(BIN)/safesweep run demo --storage $(DEMO_STORE)
	$(BIN)/safesweep select --sweep demo --storage $(DEMO_STORE)
	$(BIN)/safesweep report demo --storage $(DEMO_STORE) --output $(DEMO_STORE)/demo.html
	@echo "store: $(DEMO_STORE)  page with the figure: $(DEMO_STORE)/demo.html"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# Four processes for two cores, because tests that start Ray, in two of them, mostly wait.
test: lint types
	$(BIN)/pytest -m "not slow and not gpu and not network" --numprocesses 4 --dist loadgroup --no-loadscope-reorder

# Every ablation, for whoever changes one.
test-ablations: setup
	$(BIN)/pytest -m "slow and not gpu and not network" tests/analysis/ablations

# Without the line about MkDocs 2 that its theme prints; a warning of the site itself ends it.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean

test-all: lint types
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest --cov --cov-report=term:skip-covered --cov-fail-under=85

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
