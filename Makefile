# Each target sets up .venv by itself; PYTHON names the interpreter to start from (3.11 or newer), PYTEST more options of
# pytest, WORKERS its processes.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: eval test test-fast check report clean

# A part of the built-in experiment that takes minutes: 144 of its 412 questions.
eval: $(INSTALLED)
	$(BIN)/python -m evalkit data make --subset ci-50
	$(BIN)/python run_eval.py subset=ci-50

# Methods and controls on the questions of `make eval`. On all 412, twice as long:
# make report SUBSET=full OUT=results/builtin/report, which is what that folder holds.
SUBSET ?= ci-50
OUT ?= data/report/page
report: $(INSTALLED)
	$(BIN)/python -m evalkit data make --subset $(SUBSET)
	$(BIN)/python run_eval.py experiment=builtin_report subset=$(SUBSET) results_dir=data/report/$(SUBSET) report=false
	$(BIN)/python -m evalkit report data/report/$(SUBSET) --out $(OUT) --thumbnails 1

# A file's tests stay in one process: what its fixtures make is made once. Files are begun as tests/support/order.py says.
PARALLEL := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST)

# All but what is marked slow; tests/test_structure.py holds that every room is still tested.
test-fast: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL) -m 'not slow' $(PYTEST)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"evalkit needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.11")'
	@echo "Installing evalkit with everything it needs into $(VENV): about two minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) data/builtin data/backbones
