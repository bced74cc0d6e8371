# The front door.  `make help` says what there is; CMake and Ninja do the work.
BUILD := build
PREFIX ?= /usr/local
# Debian's own Python, which sees Debian's python3-* packages; any with pytest, numpy and Pillow.
PYTHON ?= $(if $(wildcard /usr/bin/python3),/usr/bin/python3,python3)
export PYTHON

.DEFAULT_GOAL := build
.PHONY: build deps demo test lint fuzz bench soak install uninstall package release newcomer clean help

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

build: ## the program, at build/vlmd (default)
	@tools/deps.sh --check build
	@tools/build.sh release vlmd share

deps: ## install the Debian packages that building needs (root or sudo)
	@tools/deps.sh build

demo: deps build ## install packages, build, and ask the built-in model about a picture
	@tools/demo.sh

test: ## install packages, build all ways, lint, unit tests, fuzz targets, end-to-end tests
	@tools/deps.sh build test
	@tools/venv.sh
	@PYTHON=$(CURDIR)/.venv/bin/python .venv/bin/python tools/test.py

lint: ## format, includes, headers alone, banned functions, sizes, clang-tidy
	@tools/deps.sh --check build test
	@tools/lint.sh

fuzz: ## each fuzz target for FUZZ_SECONDS (default 600), two at a time
	@tools/deps.sh --check build test
	@$(PYTHON) tools/fuzz.py $(or $(FUZZ_SECONDS),600)

bench: build ## speeds of this machine: kernels by level and dtype, the program with its own model
	@tools/build.sh release bench_kernels
	@$(BUILD)/bench/bench_kernels
	@$(PYTHON) bench/bench.py $(BUILD)/vlmd

soak: build ## hard times for a server: 10,000 requests dropped, 50 workers killed; then its speeds
	@tools/venv.sh
	@.venv/bin/python bench/soak_server.py $(BUILD)/vlmd 2>/dev/null
	@.venv/bin/python bench/bench_server.py $(BUILD)/vlmd

install: build ## to PREFIX (default /usr/local), stripped: program, manual, completions
	@tools/package.sh install $(PREFIX)

uninstall: ## remove what the last `make install` from here put there
	@sed 's|^|$(DESTDIR)|' $(BUILD)/installed.txt | xargs -d '\n' rm -fv

package: build ## build/vlmd_VERSION_ARCH.deb
	@tools/package.sh deb

release: build ## build/vlmd-VERSION-linux-ARCH.tar.gz and its .sha256
	@tools/package.sh tar

newcomer: package ## a bare Debian 12: `make demo`, then the package, timed (root, network, 3 GB of disk)
	@tools/newcomer.sh

clean: ## remove all build folders
	@rm -rf build build-asan build-tsan build-fuzz build-arm
