# The commands of the project. `make help` lists them; each creates .venv first if needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SITE := _build/html
BUILT := $(SITE)/.built
VENDOR := .tools/site
PORT ?= 8000
ARCHIVE := dist/batch-normalization.zip
# One thread for each worker: two workers then fill two cores, and results do not depend on the machine.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

BOOK_SOURCES := _config.yml _toc.yml $(shell find chapters bnlib tools/site -type f -not -name '.*' -not -name '*.pyc')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install book test test-site test-gpu test-portability test-oldest test-newest mutants audit bench bench-gpu experiments test-colab linkcheck dist serve lint format refresh adopt constraints clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED)  ## create .venv with all that the other commands need

book: $(BUILT)  ## build the site into _build/html; warnings are errors
	@echo "The site is in $(SITE). View it with: make serve"

test: $(INSTALLED)  ## run unit tests, notebook tests and nbval on two workers
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10 --nbval --ignore tests/site tests chapters

test-site: $(BUILT)  ## look at every page of the built site in a browser; screenshots in _build/screenshots
	rm -rf _build/screenshots _build/figures
	$(BIN)/python -m pytest --numprocesses 2 tests/site

test-portability: $(INSTALLED)  ## run notebooks on other arithmetic and threads, unit tests in random order; QUICK=1 for a part
	$(BIN)/python tools/portability.py $(if $(QUICK),--quick)

test-oldest: $(INSTALLED)  ## run the tests with the lowest versions that pyproject.toml admits; needs a network
	$(BIN)/python tools/versions.py oldest

test-newest: $(INSTALLED)  ## run the tests with the newest versions there are; needs a network
	$(BIN)/python tools/versions.py newest

mutants: $(INSTALLED)  ## change the package in thousands of small ways and record which the tests notice; takes hours
	$(BIN)/python tools/mutants.py $(if $(AGAIN),--again)

audit: $(INSTALLED)  ## ask for known vulnerabilities of all that is installed; needs a network
	$(BIN)/uv tool run pip-audit@2.10.1 --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off

experiments: export OMP_NUM_THREADS := 2
experiments: export OMP_WAIT_POLICY := passive
experiments: $(INSTALLED)  ## run the experiments that have no record yet
	$(BIN)/python -m bnlib.lab run

linkcheck: $(INSTALLED)  ## ask every other site whether the pages' links to it still lead somewhere
	$(BIN)/jupyter-book build . --builder linkcheck --path-output _build/links

dist: $(BUILT)  ## pack the site and the notebooks into one zip in dist
	$(BIN)/python tools/dist.py $(ARCHIVE)

bench: export OMP_PROC_BIND := true
bench: export OMP_PLACES := cores
bench: $(INSTALLED)  ## run the benchmarks one after the other
	@set -e; for script in $(filter-out benchmarks/gpu%.py,$(wildcard benchmarks/*.py)); do echo "$$script"; $(BIN)/python $$script; done

test-gpu: $(INSTALLED)  ## run the tests of kernels and shared statistics on the GPU, against float64
	$(BIN)/python -c 'import torch; torch.cuda.is_available() or exit("expected a GPU that PyTorch can use, got none")'
	$(BIN)/python -m pytest tests/torch/kernels
	$(BIN)/python -m pytest -k gpu tests/torch/test_collective.py tests/torch/test_distributed.py

bench-gpu: $(INSTALLED)  ## time the kernels on the GPU and record it; MINUTES=9 stops, and goes on the next time
	$(BIN)/python benchmarks/gpu.py $(if $(MINUTES),--minutes $(MINUTES))

test-colab: $(INSTALLED)  ## run chapters as on Google Colab: CHAPTER=02 (all without), IPYWIDGETS=8, NEWEST=1
	$(BIN)/python tools/colab.py $(CHAPTER) --ipywidgets $(or $(IPYWIDGETS),7) $(if $(NEWEST),--newest)

serve: $(BUILT)  ## view the site at http://localhost:8000 (PORT=... for another port)
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(SITE)

lint: $(INSTALLED)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## repair what a program can repair of the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

refresh: $(INSTALLED)  ## execute a chapter and store it: CHAPTER=02, solutions-1 or all
	@test -n "$(CHAPTER)" || { echo "expected CHAPTER=02, solutions-1 or all, got nothing" >&2; exit 2; }
	$(BIN)/python tools/refresh.py $(CHAPTER)

adopt: $(INSTALLED)  ## set the public address everywhere: URL=https://github.com/owner/name
	@test -n "$(URL)" || { echo "expected URL=https://github.com/owner/name, got nothing" >&2; exit 2; }
	$(BIN)/python tools/adopt.py "$(URL)"

constraints: $(INSTALLED)  ## choose exact versions anew for every supported Python
	@mkdir -p .tools
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --extra dev --no-annotate --no-header --upgrade \
		--output-file .tools/constraints.txt pyproject.toml
	@# Without the parts of CUDA: they follow from the build of torch, and a build for the CPU has none.
	@{ grep '^#' constraints.txt; grep -vE '^(nvidia|cuda)-' .tools/constraints.txt; } > .tools/new
	@mv .tools/new constraints.txt

clean:  ## remove what was built (.venv stays)
	rm -rf _build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "expected Python >= 3.10, got $$($(PYTHON) --version); set PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); the first time takes a few minutes."
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(BUILT): $(BOOK_SOURCES) $(INSTALLED) $(VENDOR)/.copied
	@# Every page shows what the others are called, so all are written anew when one source changes.
	rm -rf $(SITE) _build/.doctrees
	@# Without its cache the next build would not repeat the warnings of this one.
	$(BIN)/jupyter-book build . --warningiserror --keep-going --quiet || { rm -rf _build/.doctrees; exit 1; }
	@touch $@

# MathJax and the widgets' html-manager, checked by the lock file's digests; axe-core is for the tests, not for the site.
$(VENDOR)/.copied: tools/site/package.json tools/site/package-lock.json | $(INSTALLED)
	rm -rf $(VENDOR) && mkdir -p $(addprefix $(VENDOR)/extra/vendor/,widgets mathjax/input/tex mathjax/output/chtml)
	cp tools/site/package.json tools/site/package-lock.json $(VENDOR)/
	PATH="$(abspath $(BIN)):$$PATH" npm ci --prefix $(VENDOR) --ignore-scripts --no-audit --no-fund --loglevel error
	cp $(VENDOR)/node_modules/@jupyter-widgets/html-manager/dist/embed.js $(VENDOR)/extra/vendor/widgets/
	cp $(VENDOR)/node_modules/@jupyter-widgets/html-manager/dist/*.woff2 $(VENDOR)/extra/vendor/widgets/
	cp $(VENDOR)/node_modules/mathjax/es5/tex-chtml.js $(VENDOR)/extra/vendor/mathjax/
	cp -R $(VENDOR)/node_modules/mathjax/es5/input/tex/extensions $(VENDOR)/extra/vendor/mathjax/input/tex/
	cp -R $(VENDOR)/node_modules/mathjax/es5/output/chtml/fonts $(VENDOR)/extra/vendor/mathjax/output/chtml/
	cp $(VENDOR)/node_modules/axe-core/axe.min.js $(VENDOR)/
	rm -rf $(VENDOR)/node_modules
	@touch $@
