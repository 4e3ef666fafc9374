# make app    start the studio on http://localhost:7860 (installs its requirements first)
# make test   lint and run all tests (installs their requirements first); WORKERS=4 runs four files in parallel
# make setup  create or update the environment in .venv
# make lint   ruff: rules and format
# make train  train the storybook model: PRESET=cpu or PRESET=gpu
# make space  assemble a Hugging Face Space in the folder DIR
# ARGS passes options to the app: make app ARGS="--port 8000".

SHELL := /bin/bash
# The first interpreter on the path that is recent enough; PYTHON=/path/to/python overrides it.
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.14; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
PRESET ?= cpu
ARGS ?=
DIR ?=
WORKERS ?= 2

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
PIP_INSTALL := $(VENV_PYTHON) -m pip install --disable-pip-version-check
# A stamp is touched after a successful install; an edited requirements file makes it stale.
MADE := $(VENV)/.made
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev

.PHONY: app test setup lint train space system

app: $(RUNTIME)
	$(VENV_PYTHON) app.py $(ARGS)

test: export HF_HUB_OFFLINE := 1
test: export GRADIO_ANALYTICS_ENABLED := False
test: setup lint
	$(VENV_PYTHON) -m pytest -n $(WORKERS) --dist loadfile

setup: $(RUNTIME) $(DEV) system

lint: $(DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# On a CPU, one single-threaded process per core is more than twice as fast as one process with all threads.
train: export OMP_NUM_THREADS := 1
train: export GLOO_SOCKET_IFNAME := lo
train: setup
	$(if $(filter gpu,$(PRESET)),$(VENV_PYTHON),$(VENV)/bin/torchrun --standalone --nproc-per-node 2) \
		-m training.run --preset $(PRESET)

space:
	@$(PYTHON) tools/assemble_space.py "$(DIR)"

# Chromium for the browser tests, and system libraries for skia-python.
system:
	@tools/system-packages

$(MADE):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found: install it or give PYTHON=/path/to/python." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "Creating the environment failed: is the venv module installed (Debian: apt-get install python3-venv)?" >&2; exit 1; }
	@touch $@

$(RUNTIME): requirements.txt | $(MADE)
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt $(RUNTIME)
	$(PIP_INSTALL) -r requirements.txt -r requirements-dev.txt
	@touch $@
