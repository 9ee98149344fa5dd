#!/bin/sh
# Puts what an image of ours holds below a folder: the program, the libraries that it needs, certificates of authorities, an account. Nothing else.
#   deploy/image-root.sh target/release/volcanion target/image-root
set -eu
binary=$1 root=$2
rm -rf "$root"
mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/tmp" "$root/data"
install -m 755 "$binary" "$root/usr/bin/volcanion"
# The libraries, and the loader, at the paths where it looks for them.
ldd "$binary" | awk '/=> \// { print $3 } /^[[:space:]]*\// { print $1 }' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
# Authorities of targets' certificates; a machine without them makes an image without them.
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"; fi
echo 'volcanion:x:65532:65532::/data:/sbin/nologin' >"$root/etc/passwd"
echo 'volcanion:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"
if [ "$(id -u)" = 0 ]; then chown 65532:65532 "$root/data"; fi
# The same content is the same image, whenever it was made.
if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +; fi
