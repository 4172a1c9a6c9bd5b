# Two commands on a fresh machine with Python 3.11 or later, pip and make: `make demo` and `make test`.
PYTHON ?= python3
ROWS ?= 2000
TIMES ?= 40

RAW ?= data/raw

.PHONY: demo ready judge test fuzz lint audit clean

demo: .venv/installed
	.venv/bin/python demo.py --rows $(ROWS)

# the small backbone of the ready head, ahead of the first text
ready: .venv/installed
	.venv/bin/python standin.py

# the ready head on every file of a folder of raw rows, beside presidio-analyzer if that is there: make judge RAW=folder
judge: .venv/installed
	.venv/bin/python judge.py $(RAW)/*.jsonl --target-recall 0.98 --peers

test: .venv/installed
	.venv/bin/python -m pytest --numprocesses auto --dist worksteal

fuzz: .venv/installed
	FUZZ=$(TIMES) .venv/bin/python -m pytest tests/test_fuzz.py

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy

# known vulnerabilities of what requirements*.txt brought here; it asks PyPI
audit: .venv/installed
	.venv/bin/python -m pip install --quiet pip-audit
	.venv/bin/python -m pip freeze --exclude-editable | sed 's/+.*//' > .venv/audited.txt
	@.venv/bin/python -m pip_audit --strict --no-deps --disable-pip --progress-spinner off \
		--requirement .venv/audited.txt > .venv/vulnerable.txt 2> .venv/audit.log; \
	code=$$?; cat .venv/vulnerable.txt; \
	if [ $$code = 0 ]; then tail -n 1 .venv/audit.log; \
	elif [ ! -s .venv/vulnerable.txt ]; then \
		echo "make audit: nothing was audited, as PyPI's list of vulnerabilities cannot be read from here (.venv/audit.log)"; \
	fi; exit $$code

.venv/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf .venv data/demo runs/demo
