# Everything a checkout needs: `make demo` builds, installs and writes a poem; `make test` runs every check.
#
#   make install    the virtual environment .venv with mullama in it, editable; with Node.js 20 or newer, node/ as well
#   make demo       the same, then a poem streams
#   make test       formatting, lints, types, docs, Rust tests, Python tests, Node.js tests
#   make node-test  the Node.js tests alone; NODE=path picks another Node.js
#   make quick      formatting, and the tests that take no more than a second each
#   make fuzz       runs each fuzz target for FUZZ_SECONDS (5)
#   make deny       licences, sources and advisories of all crates; needs the network and cargo-deny
#   make docs       the documentation site, in site/
#   make fmt        formats Rust and Python
#   make bench      the table of benches/README.md, for the demo model and a 0.5B shape
#   make soak       ten minutes of random readers on the demo model
#   make dist       a wheel and a source archive in dist/
#   make release    a wheel for every x86-64 machine in dist/release/, tried on several processors; needs qemu-user
#   make reproduce  the same wheel once more, from a copy in another folder: it must be the same bytes
#   make vulkan     the plug-in for Vulkan in dist/release/, tried on Mesa's software device; needs Vulkan's packages
#   make aarch64    a wheel for 64-bit Arm in dist/aarch64/, not tried; needs Python's ziglang and cargo-zigbuild
#   make clean      removes .venv and everything compiled
#
# PYTHON=python3.12 picks the interpreter of .venv. MULLAMA_PORTABLE=1 compiles for x86-64-v3 (on other architectures: their
# baseline) where the default is all that this machine's processor can do. MULLAMA_BACKEND=cuda, vulkan, metal or rocm compiles
# llama.cpp for a GPU as well.

PYTHON ?= python3
BIN := .venv/bin

# rustup puts cargo here, and a shell opened before it was installed does not know.
export PATH := $(PATH):$(HOME)/.cargo/bin
# Cargo and CMake count the cores themselves; make's own job slots, closed to them, would only bring warnings.
unexport MAKEFLAGS MFLAGS

# One profile in every cargo call: each other one would compile llama.cpp again.
CARGO_FLAGS := --release --locked

MODE := native
ifneq ($(filter-out 0,$(MULLAMA_PORTABLE)),)
MODE := portable
export MULLAMA_PORTABLE
export RUSTFLAGS := $(if $(filter x86_64,$(shell uname -m)),-C target-cpu=x86-64-v3)
endif

# The same switch as pip's; the build backend refuses a value that it does not know.
ifneq ($(filter-out cpu,$(MULLAMA_BACKEND)),)
MODE := $(MODE)-$(MULLAMA_BACKEND)
export MULLAMA_BACKEND
BACKEND_FLAGS := --features mullama/$(MULLAMA_BACKEND)
CARGO_FLAGS += $(BACKEND_FLAGS)
endif

# What the native module is made of: tests and benches are not.
NATIVE_SOURCES := Cargo.toml Cargo.lock .cargo/config.toml pyproject.toml $(wildcard build_backend/*/*.py) \
	$(shell find crates/*/Cargo.toml crates/*/build.rs crates/*/build crates/*/src crates/*/shim -type f 2>/dev/null)

# Steps run one after another even under -j: cargo would make them wait for each other.
.NOTPARALLEL:
# The server that tests and pages pull models from.
HUB_SERVER := target/release/mullama-hub-server

# The package for Node.js is built and tested where Node.js 20 or newer and npm are installed, and left out elsewhere.
NODE ?= node
HAS_NODE := $(shell command -v npm >/dev/null && $(NODE) -p '+process.versions.node.split(".")[0] >= 20 ? "yes" : ""' 2>/dev/null)
NODE_SOURCES := node/package.json node/package-lock.json node/tsconfig.json $(wildcard node/src/*.ts node/scripts/*.mjs)

.PHONY: help install demo test quick format-check lint rust-test python-test node-test docs fuzz deny fmt bench soak dist release reproduce vulkan aarch64 clean

help:
	@sed -n '3,20s/^#  //p' Makefile

install: .venv/installed-$(MODE) $(if $(HAS_NODE),node/native/installed-$(MODE))

demo: install
	@$(BIN)/mullama run demo "Write a poem:"
	@$(if $(HAS_NODE),cd node && $(NODE) scripts/demo.mjs "Write a poem:")

test: format-check lint rust-test python-test $(if $(HAS_NODE),node-test) docs
	@$(if $(HAS_NODE),:,echo "Node.js 20 or newer and npm are not installed: the package for Node.js was not tested")

quick: install format-check $(HUB_SERVER)
	cargo test $(CARGO_FLAGS) --package mullama --lib --test engine --test gguf
	$(BIN)/pytest -m "not slow"

$(HUB_SERVER): Cargo.lock $(wildcard crates/mullama-hub-server/src/*.rs)
	cargo build $(CARGO_FLAGS) --package mullama-hub-server
	@touch $@

format-check: .venv/tools
	cargo fmt --all --check
	$(BIN)/ruff format --check
	$(BIN)/ruff check

lint: install
	cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	cargo clippy $(CARGO_FLAGS) --package mullama --no-default-features -- -D warnings
	cargo clippy $(CARGO_FLAGS) --package mullama-server -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --workspace --no-deps
	$(BIN)/mypy
	$(BIN)/stubtest --concise --allowlist tests/stubtest.txt mullama

rust-test: install
	cargo test $(CARGO_FLAGS) --workspace
	cargo test $(CARGO_FLAGS) --package mullama --no-default-features
	cargo test $(CARGO_FLAGS) --package mullama --features shuttle --lib interleavings

python-test: install $(HUB_SERVER) .venv/browser
	$(BIN)/pytest

node-test: install $(HUB_SERVER)
	cd node && $(NODE) scripts/generate.mjs --check
	cd node && $(NODE) scripts/reference.mjs --check
	cd node && $(NODE) --expose-gc --test --test-concurrency=1 --test-reporter=spec $(patsubst node/%,%,$(wildcard node/test/*.test.mjs))

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# libFuzzer on a stable compiler: the coverage counters that `cargo fuzz` asks for, without its sanitizers, which need a nightly
# one. With --target the flags are for the targets alone and not for build scripts.
FUZZ_SECONDS ?= 5
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing
FUZZ_TARGETS := gguf stop_matcher detokenizer template_guard
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

fuzz:
	cd fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --locked --target $(HOST) --target-dir ../target/fuzz
	@mkdir -p $(FUZZ_TARGETS:%=target/fuzz/corpus/%)
	@head -c 32768 $(DEMO) >target/fuzz/corpus/gguf/demo-header
	@for target in $(FUZZ_TARGETS); do \
		echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
		target/fuzz/$(HOST)/release/$$target -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=10 -rss_limit_mb=1024 \
			-artifact_prefix=target/fuzz/ -verbosity=0 -print_final_stats=1 target/fuzz/corpus/$$target \
			fuzz/seeds/$$target || exit 1; \
	done

deny:
	cargo deny --locked --all-features check

fmt: .venv/tools
	cargo fmt --all
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

BENCH := cargo bench --profile release --locked $(BACKEND_FLAGS) --package mullama --bench
DEMO = $(CURDIR)/python/mullama/models/demo.gguf
SHAPE := $(CURDIR)/target/bench-models/qwen2.5-0.5b-q8_0.gguf

bench: install $(SHAPE)
	$(BENCH) ratios -- $(DEMO)
	$(BIN)/python benches/python_streams.py $(DEMO)
	$(BENCH) ratios -- $(SHAPE) --tokens 48 --pairs 5
	$(BIN)/python benches/python_streams.py $(SHAPE) --tokens 48 --pairs 5
	$(if $(HAS_NODE),$(NODE) benches/node_streams.mjs $(DEMO))
	$(if $(HAS_NODE),$(NODE) benches/node_streams.mjs $(SHAPE) --tokens 48 --pairs 5 --abandoned 0)

soak: install
	$(BENCH) soak -- --seconds 600 $(DEMO)

$(SHAPE): benches/shape_model.py .venv/tools
	@mkdir -p $(@D)
	$(BIN)/python benches/shape_model.py $(DEMO) qwen2.5-0.5b --type Q8_0 --out $@

dist: install
	rm -rf dist
	$(BIN)/python -m build --sdist --wheel --outdir dist

RELEASE := PYTHONPATH=tools:build_backend $(BIN)/python -m release

release: .venv/tools $(if $(HAS_NODE),node/node_modules/.package-lock.json)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(RELEASE).build dist/release
	$(RELEASE).check dist/release
	$(if $(HAS_NODE),NODE="$(NODE)" $(RELEASE).node dist/release)

reproduce: release
	PATH="$(CURDIR)/$(BIN):$$PATH" $(RELEASE).reproduce dist/release

LLAMA_CPP_CRATE = llama-cpp-sys-2-$(shell sed -nE 's/^llama-cpp-sys-2 = .*version = "=([^"]+)".*/\1/p' Cargo.toml)
LLAMA_CPP = $(lastword $(wildcard $(HOME)/.cargo/registry/src/*/$(LLAMA_CPP_CRATE)/llama.cpp))

# Debian, Ubuntu: apt install libvulkan-dev glslc spirv-headers mesa-vulkan-drivers.
vulkan: release
	$(BIN)/python plugins/build.py vulkan --llama-cpp "$(LLAMA_CPP)" --libraries target/portable/release/mullama-lib \
		--build target/portable/vulkan --out dist/release
	$(RELEASE).check_plugin dist/release

aarch64: .venv/tools
	PATH="$(CURDIR)/$(BIN):$$PATH" $(RELEASE).cross dist/aarch64

clean:
	rm -rf .venv target dist site python/mullama/_build.py python/mullama/*.so node/node_modules node/dist node/native node/out \
		node/portable

.venv/installed-$(MODE): .venv/tools $(NATIVE_SOURCES)
	@command -v cargo >/dev/null || { echo "cargo is missing: install the stable Rust toolchain with rustup" >&2; exit 1; }
	@echo "Building mullama. The first time, compiling llama.cpp takes some minutes."
	$(BIN)/python -m pip install --quiet --editable .
	@rm -f .venv/installed-*
	@touch $@

# What npm has in its cache needs no network. Otherwise a registry that does not answer must not hang the build.
NPM_CI := npm ci --no-audit --no-fund --loglevel=error
NPM_LIMITS := --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=2000 --fetch-timeout=30000

node/node_modules/.package-lock.json: node/package-lock.json
	@cd node && { $(NPM_CI) --offline >/dev/null 2>&1 || $(NPM_CI) $(NPM_LIMITS); } || { echo "npm cannot install what the \
	package for Node.js is built with; make NODE=none leaves the package out" >&2; exit 1; }
	@touch $@

node/native/installed-$(MODE): $(NATIVE_SOURCES) $(NODE_SOURCES) node/node_modules/.package-lock.json
	cd node && MULLAMA_CARGO_FLAGS="$(BACKEND_FLAGS)" $(NODE) scripts/native.mjs
	cd node && rm -rf dist && $(NODE) node_modules/typescript/bin/tsc && $(NODE) scripts/esm.mjs
	@rm -f node/native/installed-*
	@touch $@

# The page of the server is tested in the system's Chromium, or in one that Playwright brings.
.venv/browser: .venv/tools
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null \
		|| $(BIN)/playwright install --only-shell chromium \
		|| { echo "no Chromium can be installed (Debian, Ubuntu: apt install chromium)" >&2; exit 1; }
	@touch $@

# The development tools, from pyproject.toml. Dependency groups need pip 25.1.
.venv/tools: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "$(PYTHON) is missing or older than 3.10: make PYTHON=python3.12 picks another" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv \
		|| { echo "$(PYTHON) cannot make virtual environments (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev --group docs
	@touch $@
