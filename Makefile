# Every target first makes .venv, when it is missing or older than what it was made from.
PYTHON ?= python3
BIN := .venv/bin
# CI runs without a terminal; one thread per test worker keeps two workers from fighting over the cores.
TEST_THREADS ?= 1
PYTEST = OMP_NUM_THREADS=$(TEST_THREADS) POCKETGPT_PROGRESS=off $(BIN)/pytest -n 2 --dist loadscope --durations 15

# Tests that train, compile, export, run whole chapters or every answer, or start processes or a browser.
WHOLE_RUNS = $(addprefix tests/, \
	bench/test_benchmarks.py \
	commands/test_chat.py \
	commands/test_denoising.py \
	commands/test_finetune.py \
	commands/test_masked_words.py \
	commands/test_span_corruption.py \
	course/ch15_training_at_scale/test_two_processes.py \
	course/ch24_find_the_bug/test_bug_cases_ch24.py \
	course/lab/test_own_model.py \
	course/lab/test_symptom_table.py \
	course/test_jupyterlab.py \
	grading/test_prune_cells.py \
	grading/test_solutions.py \
	grading/test_verify.py \
	inference/test_compile.py \
	inference/test_onnx_export.py \
	test_output.py \
	training/test_compile.py \
	training/test_distributed.py \
	training/test_processes.py \
	training/test_resume.py \
	training/test_run.py)
NOT_WHOLE_RUNS = $(addprefix --ignore=, $(WHOLE_RUNS))

.PHONY: lab test check test-grading test-runs notebooks train bench gpu clean

lab: .venv/stamp
	$(BIN)/jupyter lab chapters/00_start_here.ipynb

test: check test-grading test-runs

# What to run while working.
check: .venv/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pocketgpt build --check
	$(PYTEST) -p no:nbval --ignore tests/grading $(NOT_WHOLE_RUNS)

# Real submissions in the sandbox.
test-grading: .venv/stamp
	$(PYTEST) -p no:nbval tests/grading $(NOT_WHOLE_RUNS)

# Whole runs, and every cell of every solution, which gives its stored output.
test-runs: .venv/stamp
	$(PYTEST) -p no:nbval $(WHOLE_RUNS)
	$(PYTEST) --nbval --nbval-current-env solutions

notebooks: .venv/stamp
	$(BIN)/pocketgpt build

train: .venv/stamp
	$(BIN)/pocketgpt train --preset pocket-shakespeare

bench: .venv/stamp
	$(BIN)/pocketgpt bench

# At most ten minutes on a machine with a CUDA GPU: everything that needs one, and one report.
gpu: .venv/stamp
	$(BIN)/python tests/gpu/run.py

.venv/stamp: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[course,train,export,dev]'
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis runs
