# Everything a reader, a student or a maintainer needs; each target bootstraps .venv by itself.
#   make book    build the book (needs only Python >= 3.10; installs no torch)
#   make serve   build it and open it on http://localhost:8000
#   make test    lint, types, tests, every notebook, the built pages in a browser
#   make check   the two-minute part of make test
#   make lab     open the lessons in JupyterLab
#   make notebooks   run all lessons again and store their outputs
#   make homework    generate the student notebooks from the instructor notebooks
#   make submission NOTEBOOK=...   write the file to hand in
#   make lock        refresh requirements.lock (needs uv)
#   make clean
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8000
HTML := _build/html
# Idle OpenMP threads that spin make two busy cores crawl.
export OMP_WAIT_POLICY := passive
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.PHONY: book serve test check lab notebooks homework submission lock clean

.venv/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "cvbook needs Python 3.10 or newer; try make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	@touch $@

.venv/.book: .venv/.pip pyproject.toml requirements.lock
	@echo "Installing what the book needs (once)…"
	@$(BIN)/python -m pip install -q -c requirements.lock --group book
	@touch $@

.venv/.all: .venv/.book
	@echo "Installing torch and the test tools (once; torch is large)…"
	@$(BIN)/python -m pip install -q -c requirements.lock -e ".[test,lab,pretrained]"
	@touch $@

book: .venv/.book
	@$(BIN)/jupyter-book build . --toc book/_toc.yml -n -W --keep-going -q
	@echo "The book is ready: open $(CURDIR)/$(HTML)/index.html"

serve: book
	@echo "http://localhost:$(PORT)/  (stop with Ctrl-C)"
	@(sleep 1; $(BIN)/python -m webbrowser -t http://localhost:$(PORT)/ >/dev/null 2>&1) & \
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(HTML)

check: .venv/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python tools/notebooks.py check
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow" tests

test: .venv/.all book
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python tools/notebooks.py check
	$(BIN)/pytest -q -n 2 --dist loadfile --cov=cvbook --cov-report=term:skip-covered --cov-fail-under=95 --doctest-modules cvbook tests
	$(BIN)/pytest -q -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks/[0-9]*

lab: .venv/.all
	$(BIN)/jupyter lab --notebook-dir=. notebooks

notebooks: .venv/.all
	$(BIN)/python tools/notebooks.py execute

homework: .venv/.all
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/homework.py

submission: .venv/.all
	$(BIN)/python -m cvbook.submission "$(NOTEBOOK)"

# torch stays out of the lock: its builds differ by machine, and the lessons run with any torch >= 2.4
lock:
	uv pip compile -q --universal --python-version 3.10 --no-annotate --no-header --all-extras --group pyproject.toml:book pyproject.toml \
	  | grep -vE '^(torch|torchvision|triton|nvidia-|cuda-|setuptools)' > requirements.lock

clean:
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov
