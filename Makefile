# Two commands on a fresh machine with Python 3.11 or later, pip and make: `make demo` and `make test`.
PYTHON ?= python3
ROWS ?= 2000

.PHONY: demo test lint clean

demo: .venv/installed
	.venv/bin/python demo.py --rows $(ROWS)

test: .venv/installed
	.venv/bin/python -m pytest

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.venv/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf .venv data/demo runs/demo
