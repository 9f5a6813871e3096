# Everything a developer does here. `make` alone lists the targets.

# Versions that no lock file holds. The rest: rust-toolchain.toml (compiler), Cargo.lock (crates),
# package-lock.json (Node, wrangler, wasm-opt, esbuild).
WORKER_BUILD_VERSION := 0.8.7
WASM_PACK_VERSION    := 0.15.1
MACHETE_VERSION      := 0.9.2
DENY_VERSION         := 0.20.2
OHA_VERSION          := 1.16.0
SCHEMATHESIS_VERSION := $(shell sed -n 's/^schemathesis==//p' tests/fuzz/requirements.txt)
# The wasm-bindgen tool must be of exactly the version the crate was compiled with, so the lock file says it.
WASM_BINDGEN_VERSION := $(shell awk '/^name = "wasm-bindgen"$$/ { getline; gsub(/[^0-9.]/, ""); print }' Cargo.lock)

# Tools compiled from crates.io, each in a folder named after its version: a folder that is there is
# never installed again. Point TOOLS_DIR elsewhere to share them between clones.
TOOLS_DIR    ?= .tools
TOOLS        := $(abspath $(TOOLS_DIR))
WORKER_BUILD := $(TOOLS)/worker-build-$(WORKER_BUILD_VERSION)/bin/worker-build
WASM_BINDGEN := $(TOOLS)/wasm-bindgen-cli-$(WASM_BINDGEN_VERSION)/bin/wasm-bindgen
WASM_PACK    := $(TOOLS)/wasm-pack-$(WASM_PACK_VERSION)/bin/wasm-pack
MACHETE      := $(TOOLS)/cargo-machete-$(MACHETE_VERSION)/bin/cargo-machete
DENY         := $(TOOLS)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
OHA          := $(TOOLS)/oha-$(OHA_VERSION)/bin/oha
# Named after the list's content too: another version of what it uses is another installation.
FUZZ_LIST    := tests/fuzz/requirements.txt
FUZZ_TOOLS   := $(TOOLS)/schemathesis-$(SCHEMATHESIS_VERSION)-$(shell cksum < $(FUZZ_LIST) | cut -d ' ' -f 1)
SCHEMATHESIS := $(FUZZ_TOOLS)/bin/schemathesis
CONFORMANCE_LIST  := tests/conformance/requirements.txt
PYMCDM_VERSION    := $(shell sed -n 's/^pymcdm==//p' $(CONFORMANCE_LIST))
CONFORMANCE_TOOLS := $(TOOLS)/pymcdm-$(PYMCDM_VERSION)-$(shell cksum < $(CONFORMANCE_LIST) | cut -d ' ' -f 1)
PYTHON       ?= python3

# Named after the lock file's content: `npm ci` runs once for each content, whatever the file times say.
NPM_BIN      := $(CURDIR)/node_modules/.bin
NPM_STAMP    := node_modules/.installed-$(shell cksum < package-lock.json | cut -d ' ' -f 1)
WASM_TARGET  := wasm32-unknown-unknown
DOCS_ASSETS  := assets/public/docs-assets

# What the wasm is made of. The file server's copies are not compiled in.
WORKER_SOURCES := Makefile Cargo.toml Cargo.lock rust-toolchain.toml \
	$(shell find src migrations assets .cargo -type f -not -path '$(DOCS_ASSETS)/*' 2>/dev/null)

# In CI a Cargo.lock that is behind Cargo.toml is an error; at the desk cargo may bring it up to date.
LOCKED := $(if $(CI),--locked)

# bash, strict; failglob so that "no test file matches" is an error and not a success with 0 tests.
# (With a SHELL of our own, make always honours the PATH below.)
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -O failglob -c
# node_modules/.bin first: it holds a Node 22, which wrangler needs, so an older one of the user's will do.
SYSTEM_PATH := $(PATH)
export PATH := $(NPM_BIN):$(PATH)
# No usage reports, no look for updates, no fetch of a sample `request.cf`: nothing here calls out by itself.
export WRANGLER_SEND_METRICS := false
export WRANGLER_SEND_ERROR_REPORTS := false
export WRANGLER_HIDE_BANNER := true
export CLOUDFLARE_CF_FETCH_ENABLED := false

.DEFAULT_GOAL := help
# The targets of `test` are in order: cheap gates first. Cargo uses all cores by itself.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help setup rust-target docs-assets build pkg dev secrets signing-key rotate-signing-key demo bench bench-contract bench-backup bench-decisions test fmt fmt-check clippy unused deny \
	generate check-generated test-native test-tools test-worker test-pkg test-telemetry setup-schema test-schema fuzz conformance size audit restore drill deploy clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## ---- tools -------------------------------------------------------------------------------------

setup: rust-target $(NPM_STAMP) $(WORKER_BUILD) $(WASM_BINDGEN) $(MACHETE) $(DENY) ## install the tools (once per version)

# rustup may be set not to install what rust-toolchain.toml names, so the target is asked for by name.
rust-target:
	@rustup target list --installed | grep -qx $(WASM_TARGET) || rustup target add $(WASM_TARGET)

# With the user's own PATH: `npm ci` removes the folder our Node lives in.
# (In package-lock.json the workerd of macOS and Windows has no hash: those packages could not be fetched
# where the file was written. Without their entries `npm ci` refuses the file.)
$(NPM_STAMP):
	@echo "npm ci"
	@PATH="$(SYSTEM_PATH)" npm ci --loglevel=error
	@node -e 'process.exit(parseInt(process.versions.node) >= 22 ? 0 : 1)' \
		|| { echo "wrangler needs Node 22 or later, and the npm packages brought none for this machine." >&2; exit 1; }
	@touch $@

# Without --locked: the lock files these tools ship name crate versions that may have been withdrawn.
$(WORKER_BUILD):
	cargo install worker-build --version $(WORKER_BUILD_VERSION) --root $(TOOLS)/worker-build-$(WORKER_BUILD_VERSION)

$(WASM_BINDGEN):
	cargo install wasm-bindgen-cli --version $(WASM_BINDGEN_VERSION) --root $(TOOLS)/wasm-bindgen-cli-$(WASM_BINDGEN_VERSION)

# Packs the npm package; installed by the first `make pkg`. It looks for updates of itself unless the file where it notes
# the last look says nothing.
$(WASM_PACK):
	cargo install wasm-pack --version $(WASM_PACK_VERSION) --root $(TOOLS)/wasm-pack-$(WASM_PACK_VERSION)
	@touch $@.stamp

$(MACHETE):
	cargo install cargo-machete --version $(MACHETE_VERSION) --root $(TOOLS)/cargo-machete-$(MACHETE_VERSION)

# --debug and no debug information: its release profile optimises across all its crates for three minutes of processor
# time, this takes one, and our tree is checked in a second either way.
$(DENY):
	CARGO_PROFILE_DEV_DEBUG=0 cargo install cargo-deny --version $(DENY_VERSION) --debug --root $(TOOLS)/cargo-deny-$(DENY_VERSION)

# The load tool, installed by the first `make bench`. With --locked: newer versions of what it uses ask for a newer compiler.
$(OHA):
	cargo install oha --version $(OHA_VERSION) --locked --root $(TOOLS)/oha-$(OHA_VERSION)

setup-schema: $(SCHEMATHESIS) ## install Schemathesis (once per version; the other targets do it by themselves)

# A virtual environment holds its own path, so it is not made elsewhere and moved; the program comes last of all that pip
# installs, and what a broken run left is made anew.
$(SCHEMATHESIS): $(FUZZ_LIST)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Schemathesis needs Python 3.11 or later; point PYTHON at one." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(FUZZ_TOOLS) \
		|| { echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: python3-venv)." >&2; exit 1; }
	$(FUZZ_TOOLS)/bin/pip install --quiet --disable-pip-version-check --requirement $(FUZZ_LIST)
	@touch $@

# A library without a program: the mark comes last.
$(CONFORMANCE_TOOLS)/installed: $(CONFORMANCE_LIST)
	@$(PYTHON) -m venv --clear $(CONFORMANCE_TOOLS) \
		|| { echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: python3-venv)." >&2; exit 1; }
	$(CONFORMANCE_TOOLS)/bin/pip install --quiet --disable-pip-version-check --requirement $(CONFORMANCE_LIST)
	@touch $@

## ---- build and run -----------------------------------------------------------------------------

build: build/index.js docs-assets ## compile the Worker (release wasm) into build/

# worker-build would download these three programs; it is given ours.
build/index.js: $(WORKER_SOURCES) | setup
	WASM_BINDGEN_BIN=$(WASM_BINDGEN) WASM_OPT_BIN=$(NPM_BIN)/wasm-opt ESBUILD_BIN=$(NPM_BIN)/esbuild \
		$(WORKER_BUILD) --release

pkg: pkg/package.json ## pack the rules for Node and browsers: the npm package devskyy-receipts, in pkg/

# wasm-pack takes wasm-bindgen and wasm-opt from the PATH, and with no-install from nowhere else.
pkg/package.json: $(WORKER_SOURCES) $(wildcard packages/receipts/*) tools/pkg.mjs | setup $(WASM_PACK)
	@rm -rf pkg
	PATH="$(dir $(WASM_BINDGEN)):$$PATH" $(WASM_PACK) build --mode no-install --release --target web --out-name devskyy_receipts \
		-- $(LOCKED) --no-default-features
	@node tools/pkg.mjs

# The API docs page may load no file from another host, so the Worker serves its own copies.
docs-assets: $(DOCS_ASSETS)/swagger-ui-bundle.js
$(DOCS_ASSETS)/swagger-ui-bundle.js: $(NPM_STAMP)
	@mkdir -p $(DOCS_ASSETS)
	cp node_modules/swagger-ui-dist/{swagger-ui-bundle.js,swagger-ui-bundle.js.LICENSE.txt,swagger-ui.css,LICENSE,NOTICE} $(DOCS_ASSETS)/
	@touch $@

dev: build secrets ## run it on http://127.0.0.1:8787, local state, crons ticking
	wrangler d1 migrations apply devskyy --local </dev/null
	@node tools/dev.mjs

secrets: setup ## make .dev.vars (local secrets) when there is none
	@node tools/dev-secrets.mjs

signing-key: setup ## print a fresh signing key for production
	@node tools/signing-key.mjs

# ENVIRONMENT and NOW, where given to make, are in the script's environment.
rotate-signing-key: setup ## a fresh signing key for .dev.vars, or with ENVIRONMENT=production for the deployed Worker
	@node tools/rotate-signing-key.mjs

demo: build ## show the API at work
	node tools/demo.mjs

bench: build $(OHA) ## measure it under load
	OHA=$(OHA) node tests/load/bench.mjs

bench-contract: build $(OHA) ## the contract's load (CONTRACT_SECONDS=300 for all of it)
	OHA=$(OHA) node tests/load/contract.mjs

bench-backup: build ## a backup and a restore of 1,000,000 observations and 100,000 decisions
	node tests/load/backup.mjs

## ---- gates -------------------------------------------------------------------------------------

test: setup fmt-check unused deny clippy check-generated test-native build size test-tools test-pkg test-worker test-telemetry test-schema ## every gate and test, as CI runs it
	@echo "All gates and tests passed."

fmt: ## format the code
	cargo fmt

fmt-check: ## is the code formatted?
	cargo fmt --check

clippy: rust-target ## lint host and wasm code, with and without the service, warnings are errors
	cargo clippy $(LOCKED) --all-targets -- -D warnings
	cargo clippy $(LOCKED) --lib --target $(WASM_TARGET) -- -D warnings
	cargo clippy $(LOCKED) --lib --target $(WASM_TARGET) --no-default-features -- -D warnings

unused: $(MACHETE) ## dependencies that nothing uses
	$(MACHETE) --skip-target-dir

deny: $(DENY) ## licenses, duplicates and sources of the dependencies, as deny.toml allows them
	$(DENY) $(LOCKED) check -D warnings bans licenses sources

# Twice: /docs/endpoints and the readiness check quote what is compiled in, so a change settles in the second run.
generate: ## write the generated files
	cargo run $(LOCKED) --quiet --bin generate
	cargo run $(LOCKED) --quiet --bin generate

check-generated: ## are the generated files what the code generates?
	cargo run $(LOCKED) --quiet --bin generate -- --check

test-native: ## tests on the host: domain rules, and the API over SQLite
	cargo test $(LOCKED)

test-tools: setup ## tests of the scripts in tools/
	node --test tests/tools/*.test.mjs

test-worker: build setup-schema ## tests on the real runtime (workerd)
	WEBHOOK_PYTHON=$(FUZZ_TOOLS)/bin/python node --test tests/worker/*.test.mjs

test-pkg: pkg ## tests of the npm package
	node --test tests/pkg/*.test.mjs

test-telemetry: build ## a real Prometheus scrapes the real Worker; alert rules and dashboard under ops/
	PROMETHEUS_BIN=$$(tools/prometheus.sh $(TOOLS)) && PROMETHEUS_BIN="$$PROMETHEUS_BIN" node --test tests/telemetry/*.test.mjs

# 12 test cases an operation and phase: about a minute. The seed makes two runs alike.
test-schema: build setup-schema ## every operation of the served OpenAPI document against the real Worker, a minute
	SCHEMATHESIS=$(SCHEMATHESIS) FUZZ_EXAMPLES=12 FUZZ_SEED=1 node tests/fuzz/schema.mjs

fuzz: export FUZZ_SECONDS ?= 900
fuzz: export FUZZ_EXAMPLES ?= 200
fuzz: build setup-schema ## a million cases for each parser (FUZZ_CASES), then that for long, another way each time (FUZZ_SECONDS=900 FUZZ_EXAMPLES=200 FUZZ_SEED=…)
	FUZZ_CASES=$${FUZZ_CASES:-1000000} FUZZ_SEED=$${FUZZ_SEED:-$$RANDOM} \
		cargo test $(LOCKED) --profile fuzz --test parsers -- --nocapture
	SCHEMATHESIS=$(SCHEMATHESIS) node tests/fuzz/schema.mjs --continue-on-failure

# The test itself is one of `make test-native`: it reads the kept file.
conformance: $(CONFORMANCE_TOOLS)/installed ## compare our rankings with those of pymcdm, of problems made anew (CONFORMANCE_SEED, CONFORMANCE_PROBLEMS)
	$(CONFORMANCE_TOOLS)/bin/python tests/conformance/problems.py
	printed=$$(cargo test $(LOCKED) --test conformance -- --nocapture | tee /dev/stderr) \
		&& sed -n 's/^conformance: //p' <<< "$$printed" > tests/conformance/results.txt

bench-decisions: ## what a decision costs on the host
	cargo bench $(LOCKED) --bench decisions

size: build ## what a deploy would upload; 2 MB gzipped or more is an error
	@node tools/size.mjs

## ---- not a gate: its answer changes without a change here ------------------------------------

audit: $(DENY) $(NPM_STAMP) ## ask the advisory databases about the dependencies ("Error 3": one did not answer)
	@CARGO_DENY=$(DENY) node tools/audit.mjs

## ---- deploy and clean up -----------------------------------------------------------------------

restore: export FROM ?=
restore: setup ## fill an empty environment from a backup (FROM=<id of a set, or a folder with its files>, BASE=<URL>)
	@node tools/restore.mjs

drill: build ## back up, destroy, restore and compare, on the real runtime; prints how long it took
	node --test tests/worker/backup.test.mjs

deploy: build ## set up what is missing on Cloudflare, then deploy
	@node tools/deploy.mjs

clean: ## remove what was built
	rm -rf target build dist pkg $(DOCS_ASSETS)

distclean: clean ## remove the tools and the local database too (.dev.vars stays)
	rm -rf node_modules .tools .wrangler
