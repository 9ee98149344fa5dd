#!/usr/bin/env bash
# Builds deploy/Dockerfile for real where no image registry can be reached: by buildah, on a Debian of debootstrap under the base image's name. Then holds what is in
# the image against what deploy/image-root.sh puts together of the same program, and starts it.
#   tests/image/build.sh FOLDER [TAR]     as root; FOLDER keeps the base, TAR becomes the image as an archive
# Crates are this machine's own (CARGO_HOME), so the build fetches none. It takes as long as a release build, or with PROGRAM=target/debug/volcanion no time: then
# everything is done but the compiling, in whose place that program is taken.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd) archive=${2:-}
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^ARG RUST_VERSION=//p' deploy/Dockerfile)
base=docker.io/library/rust:$version-bookworm image=localhost/volcanion:built
program=$(command -v buildah) || { echo "Missing: buildah" >&2; exit 3; }
command -v debootstrap >/dev/null || { echo "Missing: debootstrap" >&2; exit 3; }
buildah() { "$program" --root "$folder/storage" --runroot "$folder/run" "$@"; }

if [ ! -e "$folder/base/whole" ]; then
  rm -rf "$folder/base"
  debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$folder/base" >"$folder/debootstrap.log"
  touch "$folder/base/whole"
fi
if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
  # The toolchain lies where the official image has it.
  mkdir -p "$folder/base/usr/local/cargo/bin" "$folder/base/usr/local/rustup"
  tar -C "$(rustc --print sysroot)" --exclude=./share -cf - . | tar -C "$folder/base/usr/local/rustup" -xf -
  for tool in cargo rustc; do ln -sf "/usr/local/rustup/bin/$tool" "$folder/base/usr/local/cargo/bin/$tool"; done
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$folder/base" / >/dev/null
  buildah config --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --env CARGO_HOME=/usr/local/cargo "$container"
  buildah commit --quiet --rm "$container" "$base" >/dev/null
fi
[ "${STOP_AT_BASE:-}" = "" ] || exit 0

volumes="--volume ${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry"
if [ -n "${PROGRAM:-}" ]; then
  mkdir -p "$folder/instead"
  install -m 755 "$PROGRAM" "$folder/instead/volcanion"
  printf '#!/bin/sh\nset -e\nmkdir -p target/release\ncp /usr/local/cargo/bin/volcanion target/release/volcanion\n' >"$folder/instead/cargo"
  chmod 755 "$folder/instead/cargo"
  volumes="--volume $folder/instead:/usr/local/cargo/bin"
fi
epoch=$(git log -1 --format=%ct) revision=$(git rev-parse HEAD)
make image IMAGE="$image" BUILDER="$program --root $folder/storage --runroot $folder/run bud --format docker --timestamp $epoch --isolation chroot --pull-never --layers=false $volumes"

# A line for each file: its path, its mode, its time, its content.
listed() { (cd "$1" && find . -type f -printf '%P %m %T@\n' | sort && find . -type f -exec sha256sum {} + | sort -k 2); }
container=$(buildah from --pull-never "$image")
trap 'buildah rm "$container" >/dev/null' EXIT
built=$(buildah mount "$container")
# Within the base, for the libraries are its.
mkdir -p "$folder/base/made"
cp deploy/image-root.sh "$built/usr/bin/volcanion" "$folder/base/made/"
SOURCE_DATE_EPOCH=$epoch chroot "$folder/base" sh /made/image-root.sh /made/volcanion /made/image-root
diff <(listed "$folder/base/made/image-root") <(listed "$built")
echo "The image has the $(find "$built" -type f | wc -l) files of deploy/image-root.sh, $(du -sm "$built" | cut -f 1) MB."
chroot "$built" /usr/bin/volcanion --version
about=$(buildah inspect --type image "$image")
for word in '"/usr/bin/volcanion"' '"65532:65532"' "$revision" http://127.0.0.1:8080/livez; do
  grep -qF "$word" <<<"$about" || { echo "The image does not say $word." >&2; exit 1; }
done
echo "Its layer is $(buildah inspect --type image --format '{{ index .Docker.RootFS.DiffIDs 0 }}' "$image"), each time that this commit is built on these packages."
if [ -z "${PROGRAM:-}" ] && grep -aoE '/src/(agent|common|master|cli)/src/[a-z/]+|/usr/local/cargo' "$built/usr/bin/volcanion"; then
  echo "The program names where it was built." >&2
  exit 1
fi
[ -z "$archive" ] || buildah push --quiet "$image" "docker-archive:$archive:$image"
