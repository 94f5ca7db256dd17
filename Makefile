PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

LIBRARIES ?= torch jax hyper-connections
# `make lite LITE_OPTIONS=--cdn` leaves Pyodide on its public CDN: for publishing.
LITE_OPTIONS ?=
MATHJAX = $(VENV)/mathjax/node_modules/mathjax/es5/tex-svg.js

.PHONY: help reproduce test libraries table docs docs-test package-test lite lite-files browser-test grading formulas lessons assignments benchmark lint format clean

help: ## show these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

reproduce: $(VENV)/installed ## run the experiments: figures/ and the claims table
	$(BIN)/mgt-np reproduce

test: $(VENV)/installed-for-tests ## check the code's style and run the whole test suite
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BESIDE) $(BIN)/python -m pytest -n auto

libraries: $(VENV)/installed-libraries ## run the suite on PyTorch's and JAX's arrays and beside other implementations (minutes)
	$(ON_JAX) $(BESIDE) $(BIN)/python -m pytest -n auto -k "(torch or jax or peers or crosscheck) and not test_steps"

table: $(VENV)/installed-libraries ## the same on all of them, and write the README's table of it
	$(ON_JAX) $(BESIDE) $(BIN)/python -m pytest -n auto --support-table README.md

lessons: $(VENV)/installed-for-tests ## run the lessons again, and store them with their outputs
	$(BESIDE) $(BIN)/python tests/test_lessons.py

docs: $(VENV)/installed-for-docs $(MATHJAX) ## build the site, in build/site (Sphinx; npm, which brings MathJax)
	$(BIN)/python docs/make_site.py build/site

docs-test: $(VENV)/installed-for-docs $(MATHJAX) ## build the site, and follow every link and formula in it
	$(BESIDE) $(BIN)/python -m pytest tests/test_pages.py tests/test_site.py

package-test: $(VENV)/installed-for-packaging ## build wheel and source archive, install the wheel, run what the README shows
	$(BIN)/python -m pytest tests/test_package.py

lite: $(VENV)/lite-gathered $(MATHJAX) ## the site with its lessons running in the reader's browser, in build/site
	$(BIN)/python docs/make_lite.py build $(VENV)/lite-files build/lite $(LITE_OPTIONS)
	$(BIN)/python docs/make_site.py build/site --lite build/lite

lite-files: ## fetch again what the lessons need in a browser: Pyodide from npm, wheels
	rm -f $(VENV)/lite-gathered
	$(MAKE) $(VENV)/lite-gathered

browser-test: $(VENV)/lite-gathered $(MATHJAX) ## run the lessons in Pyodide under Node, and in Chromium without network
	$(BESIDE) $(BIN)/python -m pytest tests/test_lite.py tests/test_browser.py

assignments: $(VENV)/installed-for-grading ## nbgrader's assignments of all lessons, in build/assignments
	$(BIN)/python lessons/make_assignments.py build/assignments
	cd build/assignments && for folder in source/*; do \
		PATH="$(abspath $(BIN)):$$PATH" nbgrader generate_assignment $${folder#source/} --create --force || exit 1; \
	done

grading: $(VENV)/installed-for-grading ## let nbgrader build and grade an assignment
	$(BESIDE) $(BIN)/python -m pytest tests/test_assignments.py

formulas: $(VENV)/installed-for-tests ## let KaTeX and MathJax render every formula of the lessons (npm)
	npm install --silent --no-save --prefix $(VENV)/formulas katex@0.16 mathjax-full@3
	NODE_PATH=$(abspath $(VENV))/formulas/node_modules $(BIN)/python -m pytest tests/test_formulas.py

benchmark: $(VENV)/installed-for-benchmarks ## time step and forward pass, beside the last time's
	$(BIN)/python -m pytest benchmarks --benchmark-autosave --benchmark-compare

lint: $(VENV)/installed-for-tests ## check the code's style alone
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/installed-for-tests ## put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment and what tools left
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

# One test process a core, one thread each.
BESIDE = OPENBLAS_NUM_THREADS=1
# JAX compiles each operation for each new shape, and would spend its time on making them fast.
ON_JAX = JAX_DISABLE_MOST_OPTIMIZATIONS=1

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-for-tests: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(VENV)/installed $@

$(VENV)/installed-for-benchmarks: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@

$(VENV)/installed-for-grading: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,grading]'
	touch $(VENV)/installed $@

$(VENV)/installed-for-docs: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,docs]'
	touch $(VENV)/installed $@

$(VENV)/installed-for-packaging: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,package]'
	touch $(VENV)/installed $@

$(VENV)/installed-for-lite: pyproject.toml | $(VENV)/installed-for-docs
	$(BIN)/python -m pip install --quiet --editable '.[test,docs,lite]'
	touch $@

$(VENV)/lite-gathered: docs/lite/gathering.py docs/lite/runtime.py | $(VENV)/installed-for-lite
	@command -v npm >/dev/null || { echo "the lessons in a browser need npm, which brings Pyodide"; exit 1; }
	$(BIN)/python docs/make_lite.py gather $(VENV)/lite-files
	touch $@

$(MATHJAX): | $(VENV)/installed-for-docs
	@command -v npm >/dev/null || { echo "the site needs npm, which brings MathJax"; exit 1; }
	npm install --silent --no-save --prefix $(VENV)/mathjax mathjax@3

$(VENV)/installed-libraries: $(VENV)/installed-for-tests
	$(BIN)/python -m pip install --quiet $(LIBRARIES)
	touch $@
