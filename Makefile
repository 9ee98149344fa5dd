# Two commands do all the set-up from a fresh clone: `make demo` and `make test`.

.PHONY: help demo build deps test test-all lint

help:
	@echo "make demo      see it work: master, agents, target and a load of 10 s in one process"
	@echo "make build     target/release/volcanion"
	@echo "make test      all tests, with real etcd, Prometheus and processes (under 20 minutes on two cores)"
	@echo "make test-all  those, and the long ones"
	@echo "make lint      formatting and clippy, warnings denied"

build:
	@tests/setup.sh build
	cargo build --release --locked

demo: build
	target/release/volcanion demo

deps:
	@tests/setup.sh test

test: deps
	cargo test --workspace --locked

test-all: deps
	VOLCANION_LONG_TESTS=1 cargo test --workspace --locked

lint:
	@tests/setup.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
