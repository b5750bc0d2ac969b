# make demo    set up, compare pretrained with random weights on generated scenes, make a page of it
# make test    set up, then all tests, a file per core (options: PYTEST_ARGS="-k pe -x"; one: "-n 0")
# make setup   only the set-up, in .venv              (another Python: PYTHON=/path/to/python3.11)
# make operators    compile mmcv's operators (for a GPU with nvcc); needs a C++ compiler and ten minutes
# make docs    README, docs/ and measurements as a site, in site/
# make lint    ruff        make clean   remove what the demo made        make clean-venv   .venv

SHELL := /bin/sh
RUN := .venv/bin/python
PYTEST_ARGS ?=
# A process per core takes whole files, in the order of tests/conftest.py; each may need 3 GiB.
SIDE_BY_SIDE := -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# The first Python in range, that of an existing .venv first; one named by the user is taken as it is.
PYTHON ?= $(shell for python in .venv/bin/python python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python tools/setup_steps/versions.py 2>/dev/null && { echo $$python; break; }; done)

# Packages of another Python are not for .venv.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH

.DEFAULT_GOAL := help
.PHONY: help setup operators demo test docs lint clean clean-venv

help:
	@sed -n 's/^# //p;/^$$/q' Makefile

setup:
	@python="$(PYTHON)"; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.10 to 3.13 on the PATH: install one, or name it with PYTHON=/path/to/python3.11." >&2; \
	  exit 2; \
	fi; \
	command -v "$$python" >/dev/null || { echo "PYTHON=$$python is not a program." >&2; exit 2; }; \
	"$$python" tools/setup_steps/versions.py 2>/dev/null || { \
	  echo "PYTHON=$$python is no Python 3.10 to 3.13: name one, or leave PYTHON out." >&2; exit 2; }; \
	"$$python" tools/setup_environment.py

operators: setup
	$(RUN) tools/compile_operators.py

demo: setup
	$(RUN) tools/demo.py

test: setup
	CUDA_VISIBLE_DEVICES= $(RUN) -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

docs: setup
	$(RUN) tools/docs_site.py --out site

lint: setup
	$(RUN) -m ruff check .

clean:
	rm -rf work_dirs/demo data/mini

clean-venv:
	rm -rf .venv
