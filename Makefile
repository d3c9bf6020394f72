.DEFAULT_GOAL := help
SHELL := /bin/bash

BASE := $(shell for p in python3.11 python3.12 python3; do \
          $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
PYTHON := .venv/bin/python
PIP := .venv/bin/python -m pip --disable-pip-version-check --no-input
# The build without CUDA. For another one: make install TORCH=torch==2.13.0, or TORCH='-r requirements-gpu.lock' with hashes
TORCH ?= $(shell grep '^torch==' requirements.lock)
CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: help packages install install-dev tools demo gpu-check test test-long check docs lock lock-notebook notebook clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

packages: .venv/.packages

install: .venv/.installed  ## Create .venv with the pinned dependencies (no CUDA)

install-dev: .venv/.installed-dev

# The lock is complete, so nothing is resolved: --no-deps. torch comes last and alone, because its CPU build stands on no
# public index that also has builds with CUDA. Its version names the build, so the wrong one cannot be taken; a hash it has not.
.venv/.packages: requirements.lock
	@test -n "$(BASE)" || { echo "needs Python 3.11 or 3.12" >&2; exit 2; }
	test -x $(PYTHON) || $(BASE) -m venv .venv
	grep -v '^torch==' requirements.lock > .venv/packages.txt
	sed 's/ --hash.*//' .venv/packages.txt > .venv/constraints.txt
	$(PIP) install --quiet --no-deps --require-hashes -r .venv/packages.txt
	$(PIP) install --quiet $(TORCH) -c .venv/constraints.txt \
	  || $(PIP) install --quiet $(TORCH) -c .venv/constraints.txt --index-url $(CPU_INDEX)
	touch $@

.venv/.installed: .venv/.packages pyproject.toml
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.lock
	$(PIP) install --quiet --no-deps --require-hashes -r requirements-dev.lock
	touch $@

.venv/.installed-notebook: .venv/.installed requirements-notebook.lock
	$(PIP) install --quiet --no-deps --require-hashes -r requirements-notebook.lock
	touch $@

# JupyterLab would ask the network for its own updates, news and extensions.
OFFLINE := --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.news_url=None --LabApp.extension_manager=readonly

notebook: .venv/.installed-notebook  ## Open the notebook in the browser, on what the demo left
	$(PYTHON) -m jupyterlab $(OFFLINE) notebooks/first_look.ipynb

# Debian starts its prometheus as a service: `systemctl disable --now prometheus` where that is not wanted.
tools:  ## Install what some tests use and PyPI has not: chromium, prometheus (by apt-get)
	$(if $(filter 0,$(shell id -u)),,sudo) apt-get update --quiet
	$(if $(filter 0,$(shell id -u)),,sudo) apt-get install --quiet --yes --no-install-recommends chromium prometheus

demo: install  ## Code 2,000 made-up reports and show the result
	rm -rf demo
	$(PYTHON) -m jobs.demo

# The folder can be copied to a machine without this checkout: docs/results/speed.md.
gpu-check: install  ## Check models and speed on the GPU here, or without one on the processor
	rm -rf gpu-check
	$(PYTHON) -m jobs.gpu_check output.path=gpu-check
	$(PYTHON) gpu-check/gpu_check.py

test: install-dev  ## Run the default tests
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 --dist loadfile

test-long: install-dev  ## Run the slow tests too
	$(PYTHON) -m pytest -m "long or not long" --timeout 1800

check: install-dev  ## Check style and format
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

docs: install  ## Make docs/configuration.md anew from the keys, and the tables of docs/results from their rows
	$(PYTHON) -m jobs._help > .venv/configuration.md
	mv .venv/configuration.md docs/configuration.md
	$(PYTHON) -m engine.studies.render

FREEZE := .lock/bin/pip freeze --all --exclude pip --exclude marginalia
# Pinned lines with the hashes of all files that the index has of them, for every system; one line a package.
HASHED := .lock/bin/uv pip compile --quiet --generate-hashes --no-annotate --no-header -
JOINED := sed -z 's/ \\\n */ /g'

lock:  ## Make the lock files anew from pyproject.toml
	rm -rf .lock
	$(BASE) -m venv .lock
	.lock/bin/pip install --quiet --upgrade setuptools
	.lock/bin/pip install --quiet "$(TORCH)" || .lock/bin/pip install --quiet "$(TORCH)" --index-url $(CPU_INDEX)
	.lock/bin/pip install --quiet .
	$(FREEZE) > .lock/all
	.lock/bin/pip install --quiet '.[dev]'
	$(FREEZE) | grep -vxFf .lock/all > .lock/dev
	.lock/bin/pip install --quiet uv
	grep '^torch==' .lock/all > .lock/torch
	grep -v '^torch==' .lock/all > .lock/others
	$(HASHED) --no-deps < .lock/others | $(JOINED) | cat - .lock/torch > requirements.lock
	$(HASHED) --no-deps < .lock/dev | $(JOINED) > requirements-dev.lock
	sed 's/+.*//' .lock/torch | $(HASHED) -c .lock/others --python-platform x86_64-manylinux_2_28 | $(JOINED) \
	  | grep -vxFf requirements.lock > requirements-gpu.lock
	rm -rf .lock build

# After `make lock`: what JupyterLab and the figures of the notebook want beside requirements.lock, in the versions of the locks.
lock-notebook:
	rm -rf .lock
	$(BASE) -m venv .lock
	.lock/bin/pip install --quiet uv
	sed 's/ --hash.*//' requirements.lock requirements-dev.lock | grep -v '^torch==' > .lock/pins
	sed 's/==.*/==/; s/[-_.]/[-_.]/g; s/^/^/' requirements.lock > .lock/there
	printf '%s\n' jupyterlab matplotlib | $(HASHED) -c .lock/pins | $(JOINED) | grep -ivf .lock/there > requirements-notebook.lock
	rm -rf .lock

clean:  ## Remove what make made: .venv, demo/, caches
	rm -rf .venv .lock demo build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
