# Two commands do all the set-up from a fresh clone: `make demo` and `make test`.

.PHONY: help demo build image image-root deps test test-all fuzz soak lint audit bench bench-scale

help:
	@echo "make demo      see it work: master, agents, target and a load of 10 s in one process"
	@echo "make build     target/release/volcanion"
	@echo "make image     the container image IMAGE (volcanion), by docker or by BUILDER=\"buildah bud\""
	@echo "make image-root  target/image-root, all that an image holds"
	@echo "make test      all tests, with real etcd, Prometheus and processes (some 25 minutes on two cores, from a fresh clone)"
	@echo "make test-all  those, and the long ones"
	@echo "make fuzz      a million cases of each property of the response parser (a minute or two)"
	@echo "make soak      simulated clusters under faults, fresh seeds for an hour (SOAK_SECONDS says otherwise)"
	@echo "make lint      formatting and clippy, warnings denied; licences, bans and sources of what we depend on"
	@echo "make audit     known advisories about what we depend on (fetches their database from GitHub)"
	@echo "make bench-scale  one master with 10, 100 and 1,000 simulated agents"
	@echo "make bench     the engine beside wrk, h2load, oha, hey, ab, and its stages alone: the tables of docs/performance.md"

build:
	@tests/setup.sh build
	cargo build --release --locked

demo: build
	target/release/volcanion demo

# The same commit makes the same image: what is in it bears the commit's time.
image: IMAGE ?= volcanion
image: BUILDER ?= docker build
image: SOURCE ?= unknown
image:
	$(BUILDER) -f deploy/Dockerfile -t $(IMAGE) \
	  --build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
	  --build-arg CREATED=$$(git log -1 --format=%cI) \
	  --build-arg REVISION=$$(git rev-parse HEAD) \
	  --build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1) \
	  --build-arg SOURCE=$(SOURCE) .

image-root: build
	deploy/image-root.sh target/release/volcanion target/image-root

deps:
	@tests/setup.sh test

# The real cluster comes last, alone: it and the others would take each other's time. (`--workspace`, for the same dependencies as before.)
test: deps
	VOLCANION_K8S= cargo test --workspace --locked
	$(if $(VOLCANION_K8S),cargo test --workspace --test suite --locked -- kubernetes --nocapture)

fuzz:
	@tests/setup.sh build
	VOLCANION_LONG_TESTS=1 cargo test -p volcanion-agent --locked --lib fuzz::

# A seed that fails is printed, with its last events and the way to see it again.
soak: SOAK_SECONDS ?= 3600
soak:
	@tests/setup.sh build
	SOAK_SECONDS=$(SOAK_SECONDS) cargo test -p volcanion-simulation --locked fresh_seeds -- --nocapture

# What measures time or CPU comes last, one after the other and with nothing beside it.
test-all: deps
	VOLCANION_LONG_TESTS=1 cargo test --workspace --locked
	VOLCANION_ALONE=1 cargo test --workspace --test suite --locked -- start_skew scale --test-threads=1 --nocapture

# cargo-deny reads deny.toml. What needs no database of advisories runs here and in `make test`; advisories are for `make audit`.
lint:
	@tests/setup.sh lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(DENY) --locked check --hide-inclusion-graph licenses bans sources

audit:
	@tests/setup.sh lint
	$(DENY) --locked check --hide-inclusion-graph
	$(AUDIT)

DENY = target/test-tools/deny/bin/cargo-deny
AUDIT = target/test-tools/deny/bin/cargo-audit audit --deny warnings

bench-scale: BENCH = fleet
bench-scale: bench

# BENCH="--rounds 3 http https" measures less.
bench: build
	@tests/setup.sh bench
	tests/bench/bench.py --write $(BENCH)
