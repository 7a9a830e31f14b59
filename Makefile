# `make demo` and `make test` set everything up in .venv on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KERNELS := kernels/cpu/libheadway_cpu.so
WEB := tests/web/node_modules/.package-lock.json

LITERT := .cache/litert

MAKEFLAGS += -j2  # two processes make what a target needs

.PHONY: demo test lint types imports namespace docs site litert clean

demo: $(READY)
	$(BIN)/headway demo

test: lint types imports $(KERNELS) $(WEB)
	PYTHONDONTWRITEBYTECODE= OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist worksteal  # bytecode is kept for the many processes that tests start; waiting threads sleep; each process has one half, so fixtures are made once

$(KERNELS): $(wildcard kernels/cpu/*.cc kernels/cpu/*.h kernels/cpu/build.py) | $(READY)
	$(BIN)/python kernels/cpu/build.py

# Node packages by their locked checksums, and the browser that one of them carries. Without npm, tests of the web are skipped.
$(WEB): tests/web/package.json tests/web/package-lock.json
	@if command -v npm > /dev/null; then \
	  npm ci --prefix tests/web --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error && node tests/web/browser.mjs && touch $@; \
	else echo "npm is not installed: tests of the target web are skipped"; fi

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checker and import contract find packages by their place on disk; build/types mirrors the import namespace.
namespace: $(READY)
	@rm -rf build/types
	@mkdir -p build/types/headway
	@for entry in headway/*; do ln -sfn ../../../$$entry build/types/headway/; done
	@for room in exporter kernels calibration; do ln -sfn ../../../$$room build/types/headway/; done

types: namespace
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p headway

imports: namespace
	cd build/types && PYTHONPATH=. ../../$(BIN)/lint-imports ../../pyproject.toml --no-logo

# The documentation, served at http://127.0.0.1:8000 and built anew when a page changes. Tests build it strictly.
docs: $(READY)
	$(BIN)/python -m docs.generate
	$(BIN)/mkdocs serve

# The documentation as files below build/site.
site: $(READY)
	$(BIN)/mkdocs build --strict

# torch comes first and alone: any looser requirement would bring the CUDA build. Old versions of pip take minutes to choose versions.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile pip==26.3
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[export,tensorrt-rtx,test,docs]'
	@touch $(READY)

# LiteRT's converter wants other versions than transformers does. Tests of the target run where this is there.
litert: $(LITERT)/.ready
$(LITERT)/.ready: pyproject.toml
	$(PYTHON) -m venv $(LITERT)
	$(LITERT)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile pip==26.3
	$(LITERT)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile torch==2.13.0
	$(LITERT)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[litert-export]'
	@touch $@

clean:
	rm -rf $(VENV) build .cache $(KERNELS) tests/web/node_modules
