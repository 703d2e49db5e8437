# What there is to do here. `make` alone prints it.

.PHONY: help build lint test unit clients demo bench

help:            ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 18

build:           ## the release binary, target/release/understudy
	cargo build --release --locked

lint:            ## formatting, clippy and docs, warnings denied
	cargo fmt --check
	cargo clippy --locked --all-targets --features simulation -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --lib
	tests/bin/check-scripts

unit:            ## unit, property and simulation tests: no servers needed
	cargo test --locked --features simulation --lib
	cargo test --locked --features simulation --test it -- --skip lab::

test: unit       ## everything, real servers and real drivers included
	tests/bin/deploy
	tests/bin/with-lab tests/bin/all-lab-tests

clients:         ## seven real drivers through the proxy, with TLS and without
	tests/bin/with-lab tests/bin/proxied-clients

demo:            ## the whole thing on real servers, from nothing; KEEP=1 leaves it up
	demo/run

bench:           ## what it costs, beside HAProxy and MySQL Router: about 40 minutes, with BENCH=short 7; ONLY=row for one
	cargo bench --locked --bench side_by_side -- --form $(or $(BENCH),long) $(addprefix --only ,$(ONLY))
