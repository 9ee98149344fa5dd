#!/bin/sh
# Makes what compose.yaml's services know each other by, in deploy/secrets/; what is there stays. Run it once before `docker compose up`.
#   deploy/compose-secrets.sh
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
# Containers read the files as users of their own, so the files are open and the folder is not.
chmod 700 secrets
random() { od -An -tx1 -N32 /dev/urandom | tr -d ' \n'; }
for name in cluster-key admin-key postgres-password; do
  if [ ! -s "secrets/$name" ]; then random >"secrets/$name"; fi
done
echo "VOLCANION_STORE=postgres://volcanion:$(cat secrets/postgres-password)@postgres:5432/volcanion" >secrets/store.env
chmod 644 secrets/*
echo "The first admin's key:  export VOLCANION_API_KEY=\$(cat deploy/secrets/admin-key)"
