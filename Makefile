# Tasks of this repository, one target each. `make` without a target lists them.

.DEFAULT_GOAL := help

# Most tests wait for a disk, a clock or a timeout most of the time. With twice as many threads as cores they take half the
# time.
export RUST_TEST_THREADS ?= $(shell expr 2 \* `getconf _NPROCESSORS_ONLN`)
# These allow a process few connections, and expect each answer in time: they run after the others.
QUIET_TESTS := few_connections:: readyz_names_the_api_if_it_gets_no_connection

.PHONY: help demo test test-foreign test-pooler test-prometheus test-api test-examples test-ops pictures soak bench bench-peer mutants lint lint-deps image sqlx postgres rust

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

demo: rust postgres ## install what is missing, build, and run the demo
	cargo build --locked --release
	@cargo run --locked --release --quiet -- demo

test: rust postgres ## run all tests; they start their own PostgreSQL
	cargo test --locked -- $(patsubst %,--skip %,$(QUIET_TESTS))
	cargo test --locked --test it -- --test-threads=2 $(QUIET_TESTS)

test-foreign: rust postgres target/foreign/bin/localstripe ## run tests against localstripe, an independent Stripe fake, and check forms with Stripe's library (needs python3)
	cargo test --locked --test it -- foreign:: --ignored

test-pooler: rust postgres ## run tests behind a real pgbouncer (installs it)
	@.ci/install-pgbouncer
	cargo test --locked --test it -- pooler:: --ignored

test-prometheus: rust postgres ## test alerts and dashboard in a real Prometheus (downloads it)
	@.ci/install-prometheus
	cargo test --locked --test it -- monitoring:: --ignored

# some systems omit pip from venv; .ci/run skips this target there
target/foreign/bin/localstripe: tests/foreign/requirements.txt
	python3 -m venv target/foreign
	target/foreign/bin/pip install --quiet --disable-pip-version-check --requirement tests/foreign/requirements.txt
	@touch $@

test-api: rust postgres target/clients/node_modules/.package-lock.json target/clients/venv/bin/schemathesis ## run clients of the API against a real service (needs node 20, npm, python3)
	cargo test --locked --test it -- api::clients:: --ignored

# npm writes this file last
target/clients/node_modules/.package-lock.json: tests/clients/package-lock.json
	@command -v npm >/dev/null && command -v node >/dev/null || { echo 'test-api needs node and npm in PATH, because one client is written in TypeScript' >&2; exit 1; }
	mkdir -p target/clients
	cp tests/clients/package.json tests/clients/package-lock.json target/clients
	npm ci --prefix target/clients --no-audit --no-fund --ignore-scripts
	@touch $@

# some systems omit pip from venv; .ci/run skips test-api there
target/clients/venv/bin/schemathesis: tests/clients/requirements.txt
	python3 -m venv target/clients/venv
	target/clients/venv/bin/pip install --quiet --disable-pip-version-check --requirement tests/clients/requirements.txt
	@touch $@

test-examples: rust postgres target/examples/node_modules/.package-lock.json target/examples/venv/bin/python ## run the examples for products in Python, Node.js and psql (needs python3, node 20, npm, psql)
	cargo test --locked --test it -- examples:: --ignored

# npm writes this file last
target/examples/node_modules/.package-lock.json: examples/node/package-lock.json
	@command -v npm >/dev/null && command -v node >/dev/null || { echo 'test-examples needs node and npm in PATH, because one example is for Node.js' >&2; exit 1; }
	mkdir -p target/examples
	cp examples/node/package.json examples/node/package-lock.json target/examples
	npm ci --prefix target/examples --no-audit --no-fund --ignore-scripts
	@touch $@

# some systems omit pip from venv; .ci/run skips test-examples there
target/examples/venv/bin/python: examples/python/requirements.txt
	python3 -m venv target/examples/venv
	target/examples/venv/bin/pip install --quiet --disable-pip-version-check --requirement examples/python/requirements.txt
	@touch $@

pictures: rust postgres ## draw the pictures of the README again, from the data of the demo
	INSTA_UPDATE=always cargo test --locked --test it -- demo::the_pictures

# the virtual environment of test-api has what schemas.py needs
test-ops: rust target/clients/venv/bin/schemathesis target/packaging/schemas/.done ## check ops/ and the manual pages with the parsers of those who read them (needs python3; installs systemd-analyze and mandoc)
	@.ci/install-lint-tools
	.ci/check-ops

target/packaging/schemas/.done: tests/packaging/schemas.txt target/clients/venv/bin/schemathesis
	rm -rf $(@D)
	target/clients/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest $(@D) --requirement $<
	@touch $@

soak: rust postgres ## order laws on many generated histories, a backfill of 5,000 customers, two years of 10,000 workspaces (an hour or more)
	SOAK_HISTORIES=3000 cargo test --locked --test it -- any_order_of_arrival --nocapture
	SOAK_HISTORIES=500 cargo test --locked --test it -- any_history_ends --nocapture
	SOAK_HISTORIES=200 cargo test --locked --test it -- any_sequence_of_changes --nocapture
	SOAK_CUSTOMERS=5000 cargo test --locked --test it -- backfill::completeness::the_rows --nocapture
	SOAK_SUBSCRIPTIONS=10000 cargo test --locked --test it -- limits::simulation --nocapture

bench: rust postgres ## costs compared with the minimum SQL (an hour; BENCH=serve runs one of them)
	cargo bench --locked $(if $(BENCH),--bench $(BENCH),--bench serve --bench apply --bench limits --bench backfill --bench api)

bench-peer: rust postgres target/peer/node_modules ## compare with Supabase's stripe-sync-engine (needs node, npm)
	cargo bench --locked --bench peer

# the engine leaves the version of stripe to its users
target/peer/node_modules:
	@command -v npm >/dev/null && command -v node >/dev/null || { echo 'bench-peer needs node and npm in PATH, because the peer is a Node.js library' >&2; exit 1; }
	npm install --prefix target/peer --no-audit --no-fund --ignore-scripts @supabase/stripe-sync-engine@0.48.5 stripe@23.1.0

mutants: rust ## mutation tests of the rules of order, signatures and SEPA (installs cargo-mutants)
	.ci/mutants

lint: rust ## check formatting, clippy and rustdoc, as CI does
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

lint-deps: ## check licences, bans and advisories of the dependencies (installs cargo-deny)
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --config .deny.toml check

image: ## build the container image with docker, podman or buildah (IMAGE=name)
	.ci/build-image $(IMAGE)

sqlx: postgres ## rewrite .sqlx after a query or a migration has changed
	.ci/sqlx-prepare

# PostgreSQL server binaries for the embedded database and the tests.
postgres: ## find PostgreSQL server binaries, or install them
	@.ci/install-postgres

# An older compiler fails inside a dependency; this check reports the cause first.
rust:
	@.ci/check-rust
