# Thin on purpose: the work is in cargo, xtask and scripts/.
.PHONY: demo test fuzz check bench build help

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 10

demo: ## three hosts, six pods, BGP, policy: proven end to end, then cleaned up (root, a C compiler, Rust)
	@scripts/require-tools
	cargo build --release --locked --bin tortie
	target/release/tortie lab demo

test: ## install what the tests need (Debian packages), then run every test, and fuzz for two minutes (root)
	@scripts/require-tools
	@scripts/install-test-packages
	cargo test --workspace --locked --no-fail-fast
	@# What the tests have found out about other daemons is in the documentation.
	cargo run -q --locked -p xtask -- interop --check
	@scripts/fuzz --minutes 2

fuzz: ## fuzz the decoders and a whole session for an hour (a C++ compiler)
	@scripts/require-tools
	@scripts/fuzz --minutes 60

check: ## format, clippy, docs, dependency policy, layers, duplicated dependencies
	@scripts/require-tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@# The documentation is built with private items, for whoever works here; so links to them are fine.
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --locked --document-private-items
	cargo run -q --locked -p xtask -- layers
	cargo run -q --locked -p xtask -- dependencies

build: ## the release binary: target/release/tortie
	@scripts/require-tools
	cargo build --release --locked --bin tortie

bench: ## figures, each beside its peer (root; installs the peers)
	@scripts/require-tools
	@scripts/install-test-packages
	@scripts/bench
