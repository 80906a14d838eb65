# One command for each habit. Needs Python 3.11 or newer and make; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
# How many processes share the tests. Most of a test with a kernel or a browser is waiting.
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help lab test check style types layers docs test-long test-matrix pythons test-latest lock notebooks pictures \
    coverage bench bench-names chromium clean

help:
	@echo "make lab          JupyterLab with copies of the notebooks; opens the quickstart"
	@echo "make test         style, types, layers, unit, kernels, notebooks, JupyterLab in Chromium"
	@echo "make check        style, types, layers and documentation only"
	@echo "make docs         the documentation as a site, in build/docs"
	@echo "make test-long    the tests that take minutes, and the whole comparison of backgrounds with foregrounds"
	@echo "make test-matrix  unit and kernel tests on every supported Python, ipykernel and croniter"
	@echo "make pythons      Python 3.14 and 3.15 for that, in .pythons; needs root's rights, apt and debootstrap"
	@echo "make test-latest  the tests with the newest release of every package, and how that differs from the lock"
	@echo "make lock         the versions that lab and test install, brought up to date"
	@echo "make notebooks    runs the notebooks and saves them with their outputs"
	@echo "make pictures     the pictures of README and docs, from JupyterLab"
	@echo "make coverage     branch coverage of the unit and kernel tests"
	@echo "make bench        benchmarks beside their peers"
	@echo "make bench-names  speed of a background cell's code beside the foreground's, on every supported Python"
	@echo "make clean        removes the virtual environments"

# Set-up is stamped: it runs once, and again when pyproject.toml or the lock changes. The locks (`make lock`) have the
# versions that were tested, for every supported Python; `make test-latest` installs the newest ones in their place.

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "nbtasks needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": make PYTHON=...")'
	@echo "Set-up 1 of 3: a virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/set-up-%: $(VENV)/made pyproject.toml locks/%.txt
	@echo "Set-up 2 of 3: the packages of locks/$*.txt; a few minutes"
	$(PIP) install --progress-bar off --require-hashes --requirement locks/$*.txt
	@echo "Set-up 3 of 3: nbtasks itself"
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Large libraries, of which the long tests use one or two settings each: not locked.
$(VENV)/set-up-heavy: $(VENV)/set-up-test
	$(PIP) install --progress-bar off --no-build-isolation --editable ".[test-heavy]"
	@touch $@

lock: $(VENV)/made
	$(PIP) install --quiet uv
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --extra lab --output-file locks/lab.txt
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --extra lab --extra test --extra dev --output-file locks/test.txt

# One file for all Pythons and platforms: markers choose. Without the name of an index.
LOCK_OPTIONS := pyproject.toml --group build --universal --python-version 3.11 --generate-hashes --upgrade --quiet \
    --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"

# The machine's own Chromium serves, or NBTASKS_CHROMIUM; only where there is none is one installed.
chromium: $(VENV)/set-up-test
	@if $(BIN)/python -m tests.browser.chromium; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update && apt-get install --yes chromium && $(BIN)/python -m tests.browser.chromium; \
	else $(BIN)/playwright install chromium; fi

# In a container one often is root, which Jupyter asks about.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# The notebooks of the clone stay as they are: work is done on copies, which are made once.
WORK ?= build/notebooks

# With the JupyterLab extension of this tree; the editable install has a copy, which may be older.
lab: $(VENV)/set-up-lab
	@mkdir -p $(WORK)
	@for notebook in notebooks/*.ipynb; do \
	    test -e "$(WORK)/$$(basename "$$notebook")" || cp "$$notebook" "$(WORK)"; done
	@echo "Starting JupyterLab with copies of the notebooks, in $(WORK). Its address is printed below; Ctrl+C ends it."
	JUPYTER_PATH="$(CURDIR)/share/jupyter$${JUPYTER_PATH:+:$$JUPYTER_PATH}" $(BIN)/jupyter lab $(AS_ROOT) \
	    --ServerApp.root_dir="$(abspath $(WORK))" --LabApp.default_url=/lab/tree/01-quickstart.ipynb

check: style types layers docs

style: $(VENV)/set-up-test
	$(BIN)/ruff check .

types: $(VENV)/set-up-test
	$(BIN)/mypy

layers: $(VENV)/set-up-test
	$(BIN)/lint-imports --no-logo

# A warning fails the build: a link that leads nowhere, a docstring that does not parse.
docs: $(VENV)/set-up-test
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env -b html docs build/docs

# Each worker has kernels, a JupyterLab and a Chromium of its own, and takes the next file (order: tests/conftest.py).
# Not by groups: pytest-xdist 3.8 makes none with pytest 9.2, and says nothing.
SHARED := --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

# A test with a real kernel, server or browser that fails runs once more, and is listed as RERUN if it passes then
# (tests/conftest.py): a fault to look into, but no reason to distrust the other four thousand.
AGAIN := --reruns=1 --rerun-show-tracebacks -raR

# Hides a package that each process of the tests would import for two seconds: see there.
LEAN := PYTHONPATH="$(CURDIR)/tests/lean$${PYTHONPATH:+:$$PYTHONPATH}"

# One run tells all: every check and every test runs, whatever failed before; any failure fails the target. The checks run
# beside the tests, which wait for kernels now and then; what they print follows when the tests are done.
test: $(VENV)/set-up-test chromium
	@mkdir -p build; \
	$(MAKE) --no-print-directory --keep-going check >build/check.log 2>&1 & checking=$$!; \
	$(LEAN) $(BIN)/python -m pytest $(SHARED) $(AGAIN) --nbval-lax --nbval-current-env; tested=$$?; \
	wait $$checking; checked=$$?; \
	echo; echo "make check (beside the tests):"; cat build/check.log; \
	[ $$checked -eq 0 ] || echo "make check failed: see the lines above"; \
	[ $$tested -eq 0 ] || echo "pytest failed: see its summary before the lines of make check"; \
	[ $$checked -eq 0 ] && [ $$tested -eq 0 ]

test-long: $(VENV)/set-up-heavy chromium
	$(BIN)/python -m pytest -m long --timeout=3600 --nbval-lax --nbval-current-env
	NBTASKS_MANY_EXAMPLES=1 $(BIN)/python -m pytest tests/schedules tests/web/test_openapi.py

# In an environment of its own, with the open ranges of pyproject.toml in place of the lock.
test-latest: $(VENV)/set-up-test chromium
	$(PYTHON) tests/latest.py

test-matrix:
	$(PYTHON) tests/matrix.py --workers $(WORKERS)

pythons:
	$(PYTHON) tests/pythons.py

notebooks: $(VENV)/set-up-test
	$(BIN)/python notebooks/save_outputs.py

pictures: chromium
	NBTASKS_README_IMAGES=1 $(BIN)/python -m pytest -m long -k picture tests/browser

# On Python 3.14, where coverage.py is told by the interpreter (sys.monitoring). A trace function makes the interpreter of
# 3.11 spin as long as an exception from another thread is on its way, which is how running work is cancelled.
# Without the races, which interrupt threads at any moment: one that holds a lock of coverage.py would hold it for ever.
# The core is held to 97% of its lines and branches; but for the settings of large libraries, which the long tests cover.
BACKENDS := nbtasks/backends/base.py,nbtasks/backends/loop.py,nbtasks/backends/thread.py
CORE := nbtasks/*.py,$(BACKENDS),nbtasks/schedules/*,nbtasks/history/*,nbtasks/testing/*
coverage: $(VENV)/set-up-test
	$(BIN)/python -m coverage erase
	$(PYTHON) tests/matrix.py --only py3.14-ipykernel7.4 --workers $(WORKERS) --cov --cov-report= \
	    --ignore=tests/fidelity --ignore=tests/core/test_races.py --ignore=tests/core/test_race_machine.py tests
	$(BIN)/python -m coverage report
	$(BIN)/python -m coverage report --include="$(CORE)" --omit=nbtasks/library_state.py --fail-under=97

bench: $(VENV)/set-up-test
	$(BIN)/python -m benchmarks

bench-names:
	$(PYTHON) tests/matrix.py --only ipykernel7.4 --bench names

clean:
	rm -rf $(VENV) .venvs
