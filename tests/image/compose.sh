#!/usr/bin/env bash
# Starts deploy/compose.yaml as a whole for real where no image registry can be reached: by dockerd, with images of Debian's packages under the names that it has.
# A run whose leader is killed meanwhile is held against the target's own count and against what Prometheus scraped. Grafana and the collector are no
# packages of Debian: in their place stands who only looks whether their files are there.
#   tests/image/compose.sh FOLDER PROGRAM    as root, with docker.io, docker-compose, debootstrap, curl and jq; FOLDER keeps the images
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd) program=$(realpath "$2")
cd "$(dirname "$0")/../.."
for tool in dockerd docker-compose debootstrap curl jq; do
  command -v "$tool" >/dev/null || { echo "Missing: $tool" >&2; exit 3; }
done
export DOCKER_HOST=unix://$folder/docker.sock
files=$folder/deploy # a copy: what compose-secrets.sh makes is no part of the work tree

# It leaves a machine that forwards nothing of others.
policy=$(iptables -S FORWARD | sed -n 1p)
dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" >"$folder/dockerd.log" 2>&1 &
daemon=$!
compose() { docker-compose --project-name volcanion-try --file "$files/compose.yaml" "$@"; }
finish() {
  if [ -e "$files/compose.yaml" ]; then compose down --volumes >/dev/null 2>&1 || true; fi
  kill "$daemon" && wait "$daemon" || true
  # shellcheck disable=SC2086 # It is several words.
  iptables $policy
}
trap finish EXIT
# What does not come within a minute or two does not come.
await() { for _ in $(seq 240); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.5; done; echo "In vain: $*" >&2; exit 1; }
await docker info

base=quay.io/coreos/etcd:v3.5.21
if ! docker image inspect "$base" >/dev/null 2>&1; then
  debootstrap --variant=minbase --include=etcd-server,etcd-client,postgresql-15,prometheus bookworm "$folder/base" >"$folder/debootstrap.log"
  # What the official image's entrypoint does with its variables.
  cat >"$folder/base/postgres-entrypoint" <<'SCRIPT'
#!/bin/sh
set -eu
export PATH="/usr/lib/postgresql/15/bin:$PATH" PGDATA=/var/lib/postgresql/data
as() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
install -d -o postgres -m 700 "$PGDATA" /run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  install -o postgres -m 600 "$POSTGRES_PASSWORD_FILE" /tmp/password
  as initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256
  printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  as pg_ctl --wait --options="-c listen_addresses='' -k /tmp" start
  PGPASSWORD=$(cat /tmp/password) psql --host=/tmp --username="$POSTGRES_USER" postgres --command="CREATE DATABASE $POSTGRES_DB"
  as pg_ctl --wait stop
fi
exec setpriv --reuid=postgres --regid=postgres --clear-groups postgres -c 'listen_addresses=*'
SCRIPT
  chmod 755 "$folder/base/postgres-entrypoint"
  ln -sf /usr/lib/postgresql/15/bin/pg_isready "$folder/base/usr/local/bin/pg_isready"
  install -d -o nobody "$folder/base/prometheus"
  tar -C "$folder/base" -c . | docker import --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' - "$base" >/dev/null
  rm -rf "$folder/base"
fi
image() { { echo "FROM $base"; cat; } | docker build --quiet --tag "$1" - >"$folder/build.log" 2>&1 || { cat "$folder/build.log" >&2; exit 1; }; }
image postgres:17 <<<'ENTRYPOINT ["/postgres-entrypoint"]'
image prom/prometheus:v3.2.1 <<<$'USER nobody\nWORKDIR /prometheus\nVOLUME /prometheus\nENTRYPOINT ["/usr/bin/prometheus"]'
stand_in() { echo "ENTRYPOINT [\"/bin/sh\", \"-euc\", \"for file in $*; do test -s \$file; done; exec sleep 1000000\"]"; }
stand_in /etc/grafana/provisioning/{dashboards/volcanion,datasources/prometheus}.yaml /var/lib/grafana/dashboards/{run,fleet}.json | image grafana/grafana:11.5.2
stand_in /etc/otel/collector.yaml | image otel/opentelemetry-collector:0.120.0

# Ours is the Dockerfile's last stage around the program that is given.
deploy/image-root.sh "$program" "$folder/root"
rm -rf "$folder/ours" && mkdir "$folder/ours"
tar -C "$folder/root" -cf "$folder/ours/root.tar" .
sed -n '/^FROM scratch/,$ p' deploy/Dockerfile | sed 's#^COPY --from=build /image-root /#ADD root.tar /#' >"$folder/ours/Dockerfile"
docker build --quiet --tag volcanion "$folder/ours" >"$folder/build.log" 2>&1 || { cat "$folder/build.log" >&2; exit 1; }

rm -rf "$files" && cp -r deploy "$files" && rm -rf "$files/secrets"
"$files/compose-secrets.sh" >/dev/null
# Debian's docker-compose is of a time before files had a name of their own.
sed -i '/^name: /d' "$files/compose.yaml"
services=$(compose config --services | sort)
compose up --detach --no-build
all_well() {
  local service container state
  for service in $services; do
    container=$(compose ps --quiet "$service")
    state=$(docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}' "$container")
    case $state in "running healthy" | "running ") ;; *) return 1 ;; esac
  done
}
await all_well

VOLCANION_API_KEY=$(cat "$files/secrets/admin-key")
export VOLCANION_API_KEY
leads() { [ "$(curl -fsS "http://127.0.0.1:$1/health" | jq -r .role)" = leader ]; }
if leads 8080; then leader=master-1 other=8081; else leader=master-2 other=8080; fi
address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(compose ps --quiet target)")
counted() { curl -fsS "http://$address:8000/__stats" | jq .requests; }
is_counted() { [ "$(counted)" -ge "$1" ]; }
"$program" run http://target:8000/ --rate 200/s -d 15s --master "http://127.0.0.1:$other" --json >"$folder/result.json" &
run=$!
await is_counted 500
docker kill "$(compose ps --quiet "$leader")" >/dev/null
wait "$run"
reported=$(jq .total_requests "$folder/result.json") target=$(counted)
echo "asked for 3000, reported $reported, counted by the target $target, with $leader killed meanwhile"
[ "$reported $target" = "3000 3000" ]
# As the agents saw it, for theirs is a metric that no master's end takes along.
scraped() {
  local value
  value=$(curl -fsS --data-urlencode 'query=sum(volcanion_agent_requests_total)' http://127.0.0.1:9091/api/v1/query | jq -r '.data.result[0].value[1]')
  [ "$value" = 3000 ]
}
await scraped
up=$(curl -fsS --data-urlencode 'query=sum(up)' http://127.0.0.1:9091/api/v1/query | jq -r '.data.result[0].value[1]')
broken=$(curl -fsS http://127.0.0.1:9091/api/v1/rules | jq '[.data.groups[].rules[] | select(.health == "err")] | length')
echo "Prometheus has the same 3000, scrapes $up of the four, and $broken rules fail"
[ "$up $broken" = "3 0" ] # a master was killed
