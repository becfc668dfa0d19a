# What people run; continuous integration runs the same recipes and nothing else.

PREFIX ?= /usr
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
DESTDIR ?=
DEMO_SECONDS ?=
# Scenarios and options of the benchmark, such as `gzip,slow --rounds 1`; the other tools it runs beside them, such as
# `rsyslog=/usr/sbin/rsyslogd syslog-ng=/usr/sbin/syslog-ng`.
BENCH ?=
PEERS ?=
# Of the soak and of the outage; the seed also of the simulator.
MINUTES ?= 10
SEED ?=
FUZZ_SECONDS ?= 60
HISTORIES ?= 100000

.PHONY: build demo test lint lint-compose fmt deny dashboards bench instructions soak outage fuzz simulate install prerequisites

build:
	cargo build --release --locked

demo: prerequisites
	integration-tests/demo

test: prerequisites
	integration-tests/run-tests

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Needs no Docker engine: Compose itself, the specification's schema and hadolint, from PyPI.
lint-compose:
	integration-tests/compose/tools lint

fmt:
	cargo fmt --all

deny:
	cargo deny --all-features check licenses bans sources

# kibana/logweir-7.ndjson and logweir-8.ndjson out of their sources; a test fails when they differ.
dashboards:
	cargo run --quiet --locked -p logweir-kibana

bench: prerequisites
	cargo build --release --locked --workspace
	PEERS='$(PEERS)' target/release/bench $(BENCH)

# What a line may cost: fails above a budget. Needs valgrind, and gungraun-runner in the version of the crate gungraun.
instructions:
	cargo bench --locked --profile instructions --bench instructions

soak: prerequisites
	cargo build --release --locked --workspace
	target/release/soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

outage: prerequisites
	cargo build --release --locked --workspace
	target/release/soak outage --minutes $(MINUTES) --rate 200 $(if $(SEED),--seed $(SEED))

# Names what is missing, with the command that installs it.
prerequisites:
	@integration-tests/prerequisites

# One seed is one history; a seed that fails is printed, with the fewest steps that still fail.
simulate:
	HISTORIES=$(HISTORIES) SEED=$(SEED) cargo test --profile simulate --locked -p logweir --lib -- \
		simulator::many_histories --ignored --nocapture

# Needs nightly Rust and `cargo install cargo-fuzz`; the same functions are under proptest in `make test`.
fuzz:
	for target in format json lines reply; do \
		cargo +nightly fuzz run --fuzz-dir integration-tests/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

install:
	install -D -m 0755 target/release/logweir $(DESTDIR)$(PREFIX)/bin/logweir
	install -d $(DESTDIR)$(UNITDIR)
	sed 's#/usr/bin/logweir#$(PREFIX)/bin/logweir#; s#/etc/logweir/#$(SYSCONFDIR)/logweir/#g' \
		config/systemd/logweir.service > $(DESTDIR)$(UNITDIR)/logweir.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/logweir.service
	install -D -m 0644 config/systemd/chunks.conf $(DESTDIR)$(PREFIX)/share/doc/logweir/chunks.conf
	test -e $(DESTDIR)$(SYSCONFDIR)/logweir/logweir.yaml || \
		install -D -m 0644 config/logweir.yaml $(DESTDIR)$(SYSCONFDIR)/logweir/logweir.yaml
