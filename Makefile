# What people run; continuous integration runs the same recipes and nothing else.

PREFIX ?= /usr
DESTDIR ?=
DEMO_SECONDS ?=
BENCH ?=

.PHONY: build demo test lint fmt deny bench install prerequisites

build:
	cargo build --release --locked

demo: prerequisites
	integration-tests/demo

test: prerequisites
	integration-tests/run-tests

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fmt:
	cargo fmt --all

deny:
	cargo deny --all-features check licenses bans sources

bench: prerequisites
	cargo build --release --locked --workspace
	cargo run --release --locked -p integration-tests --bin bench -- $(BENCH)

# Names what is missing, with the command that installs it.
prerequisites:
	@integration-tests/prerequisites

install:
	install -D -m 0755 target/release/logweir $(DESTDIR)$(PREFIX)/bin/logweir
	install -D -m 0644 config/systemd/logweir.service $(DESTDIR)$(PREFIX)/lib/systemd/system/logweir.service
	test -e $(DESTDIR)/etc/logweir/logweir.yaml || \
		install -D -m 0644 config/logweir.yaml $(DESTDIR)/etc/logweir/logweir.yaml
