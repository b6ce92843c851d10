# `make demo` shows the main job on real images, `make test` runs the tests, `make check` the static checks and the documents' examples.
# Each makes its own virtual environment first; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format clean

demo: .venv/lite.done
	$(BIN)/tip-adapter demo --output demo

test: .venv/dev.done
	$(BIN)/python -m pytest -q

check: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q --doctest-modules src
	$(BIN)/python -m pytest -q tests/test_documents.py

format: .venv/dev.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch first and alone, pinned: a plain `torch` asked for by another package would pull gigabytes of GPU libraries.
.venv/lite.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lite]'
	touch $@

.venv/dev.done: .venv/lite.done
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lite,dev]'
	touch $@

clean:
	rm -rf .venv demo
