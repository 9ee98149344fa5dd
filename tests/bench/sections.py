"""What is measured: each section starts what it needs, measures, and gives Markdown. One that cannot be had says so in a word."""

import contextlib
import json
import re
import shutil
import subprocess
import sys

import clients
import cluster
import profiler
import rounds
import scale
from clients import ROOT, VOLCANION
from nginx import nginx
from processes import Failed, cores, free_ports, run, server

WRK = "wrk -t1 -c64"
H2LOAD = "h2load -t1 -c4 -m16"


class Settings:
    """How long and how often; and where cargo put the benches."""

    def __init__(self, rounds_count, seconds):
        self.rounds, self.seconds = rounds_count, seconds
        self.client_core, self.server_core = cores()
        self._benches = None

    def bench(self, name):
        """The program of one of the agent's benches, built as the product is."""
        if self._benches is None:
            command = ["cargo", "bench", "--locked", "--no-run", "--message-format=json", "-p", "volcanion-agent", "--bench", "request", "--bench", "pacing"]
            built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if built.returncode:
                raise Failed(f"the agent's benches do not build: {built.stderr[-600:]}")
            messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
            self._benches = {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}
        return self._benches[name]


def http(settings):
    """HTTP/1.1: all clients, and what the engine adds to a bare loop."""
    found, missing = clients.others()
    ours = [
        clients.volcanion(),
        clients.request_bench(settings.bench("request"), "bare tokio loop", "bare"),
        clients.request_bench(settings.bench("request"), "our sending half alone"),
    ]
    with nginx(settings.server_core) as urls:
        bills = rounds.alternate([(client, urls.http) for client in ours + found], settings.rounds, settings.seconds, settings.client_core)
    if missing:
        print(f"  not here, and skipped: {', '.join(missing)}", file=sys.stderr)
    skipped = f"\nNot here, and skipped: {', '.join(missing)}.\n" if missing else ""
    return _against(ours + found, bills, WRK) + skipped + _engine_over_bare(bills)


def _engine_over_bare(bills):
    bare = bills["bare tokio loop"]
    over = lambda name: rounds.Spread.of([ours.cpu_us - floor.cpu_us for ours, floor in zip(bills[name], bare)])
    return (
        f"\nThe whole of `volcanion run` costs {over('volcanion run').text()} µs a request more than the bare tokio loop; "
        f"its sending half alone {over('our sending half alone').text()} µs.\n"
    )


def https(settings):
    """HTTP/1.1 in TLS 1.3 over connections that are kept."""
    pair = [clients.volcanion("volcanion run --insecure", "--insecure"), *clients.others(["wrk"])[0]]
    with nginx(settings.server_core) as urls:
        bills = rounds.alternate([(client, urls.https) for client in pair], settings.rounds, settings.seconds, settings.client_core)
    return _against(pair, bills, WRK)


def http2(settings):
    """HTTP/2, by prior knowledge and in TLS: 4 connections, 64 requests under way."""
    if not clients.has_flag("--connections"):
        raise Failed("`volcanion run` has no `--connections` yet")
    if not clients.tool("h2load"):
        raise Failed("h2load is not here (package nghttp2-client)")
    text = ""
    for title, url, flags in (("Prior knowledge", "h2c", []), ("In TLS 1.3", "h2", ["--insecure"])):
        words = ["--http", "2", "--connections", "4", *flags]
        pair = [clients.volcanion(f"volcanion run {' '.join(words)}", *words), clients.h2load_2()]
        with nginx(settings.server_core) as urls:
            bills = rounds.alternate([(client, getattr(urls, url)) for client in pair], settings.rounds, settings.seconds, settings.client_core)
        text += f"{title}:\n\n{_against(pair, bills, H2LOAD)}\n"
    return text.rstrip() + "\n"


def _against(of, bills, base):
    if base not in bills:
        raise Failed(f"`{base}` is not here, and every ratio is one to it")
    rows = sorted(rounds.ratios(bills, base).items(), key=lambda row: row[1][0].median)
    versions = {client.name: client.version for client in of}
    lines = [
        f"| client | version | CPU per request, `{base}` = 1 | requests/s, `{base}` = 1 | CPU per request here, µs |",
        "|---|---|---|---|---|",
    ]
    for name, (cpu, rate) in rows:
        here = rounds.Spread.of([bill.cpu_us for bill in bills[name]])
        lines.append(f"| {name} | {versions[name]} | {cpu.text()} | {rate.text()} | {here.text()} |")
    return "\n".join(lines) + "\n"


def pacing(settings):
    """Open loops at three rates, beside a pacer that sleeps to its next slot."""
    program = settings.bench("pacing")
    blocks = []
    for rate, turns in ((1_000, 3), (10_000, 3), (20_000, settings.rounds)):
        # It pins its own threads: the load to the first core, the target to the last.
        result = subprocess.run([program, str(rate), str(min(settings.seconds, 4)), str(turns)], capture_output=True, text=True, check=False, timeout=600)
        if result.returncode:
            raise Failed(f"the pacing bench ended with {result.returncode}: {result.stderr[-400:]}")
        print(result.stdout, file=sys.stderr)
        blocks.append(result.stdout.strip())
    return "```text\n" + "\n\n".join(blocks) + "\n```\n"


LATENCY = {
    "wrk --latency": ("wrk", lambda path, url, s: [path, "-t1", "-c16", "--latency", f"-d{s}s", url]),
    "oha": ("oha", lambda path, url, s: [path, "--no-tui", "--worker-threads", "1", "-c", "16", "-z", f"{s}s", "--output-format", "json", url]),
    "hey": ("hey", lambda path, url, s: [path, "-cpus", "1", "-c", "16", "-z", f"{s}s", url]),
    "volcanion run": (None, lambda path, url, s: [str(VOLCANION), "run", url, "-c", "16", "-d", f"{s}s", "--json"]),
}


def latency(settings):
    """The same target, that waits 5 ms before each answer, through everybody's eyes."""
    port = free_ports(1)[0]
    seen = {}
    with server([str(VOLCANION), "target", "--listen", f"127.0.0.1:{port}", "--delay", "5ms"], settings.server_core, port):
        for turn in range(settings.rounds):
            for name, (needed, command) in LATENCY.items():
                path = clients.tool(needed) if needed else None
                if needed and not path:
                    continue
                done = run(command(path, f"http://127.0.0.1:{port}/", 3), settings.client_core, 60)
                seen.setdefault(name, []).append(_percentiles(done.text))
    lines = ["| client | p50, ms | p90, ms | p99, ms |", "|---|---|---|---|"]
    for name, turns in seen.items():
        lines.append(f"| {name} | " + " | ".join(rounds.Spread.of([turn[i] for turn in turns]).text() for i in range(3)) + " |")
    return "\n".join(lines) + "\n"


def _percentiles(text):
    """p50, p90 and p99 in milliseconds, as the clients write them."""
    if text.lstrip().startswith("{"):
        result = json.loads(text)
        if "latencyPercentiles" in result:
            return [result["latencyPercentiles"][p] * 1e3 for p in ("p50", "p90", "p99")]
        return [result["service_time_ms"][p] for p in ("p50", "p90", "p99")]
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3, "secs": 1e3}
    found = [re.search(rf"^\s*{p}%\s+(?:in )?([\d.]+) ?(\w+)", text, re.MULTILINE) for p in (50, 90, 99)]
    return [float(hit.group(1)) * units[hit.group(2)] for hit in found]


def memory(settings):
    """What an agent's process holds, master and etcd beside it in processes of their own."""
    if not shutil.which("etcd"):
        raise Failed("etcd is not here; `make deps` brings it")
    rows = []
    for name, plan, seconds in cluster.PLANS:
        with contextlib.ExitStack() as stack:
            agent = stack.enter_context(cluster.agent(settings, plan))
            try:
                before, loaded = agent.load(seconds)
            except Failed as failed:
                rows.append(f"| {name} | skipped: {failed} | | |")
                continue
        rows.append(f"| {name} | {before / 2**20:.1f} | {loaded / 2**20:.1f} | {(loaded - before) / agent.vus:,.0f} |")
        print(f"  {rows[-1]}", file=sys.stderr)
    head = "| load | before it, MiB resident | at most, MiB resident | growth for each VU, bytes |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def fleet(settings):
    """One master and 10 to 1,000 simulated agents of 20 series, a delta a second each."""
    if not shutil.which("etcd"):
        raise Failed("etcd is not here; `make deps` brings it")
    built = subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "-p", "volcanion-fleet"], cwd=ROOT, capture_output=True, text=True, check=False)
    if built.returncode:
        raise Failed(f"the fleet does not build: {built.stderr[-600:]}")
    lines = [
        "| agents | deltas/s | CPU of the master, cores | CPU for each delta, µs | resident before, MiB | at most, MiB | history on disk, KB/s | ended late, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for agents in (10, 100, 1000):
        one = scale.measure(settings, agents)
        lines.append(
            f"| {agents:,} | {agents:,} | {one['cores']:.2f} | {one['us_each']:.0f} | {one['idle'] / 2**20:.0f} | {one['peak'] / 2**20:.0f} "
            f"| {one['stored'] / 1e3:.0f} | {one['end_late_s']:.1f} |"
        )
        print(f"  {lines[-1]}", file=sys.stderr)
    return "\n".join(lines) + "\n"


def stages(_settings):
    """The pure stages: benches of each crate."""
    blocks = []
    for crate, bench in (("common", "delta"), ("agent", "stages"), ("master", "merge")):
        command = ["cargo", "bench", "--locked", "--quiet", "-p", f"volcanion-{crate}", "--bench", bench]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if result.returncode:
            raise Failed(f"the bench `{bench}` ended with {result.returncode}: {result.stderr[-600:]}")
        print(result.stdout, file=sys.stderr)
        blocks.append("\n".join(line.rstrip() for line in result.stdout.strip().splitlines()))
    return "```text\n" + "\n\n".join(blocks) + "\n```\n"


def profile(settings):
    """Where the time of a request goes: perf's samples of `volcanion run -c 64`."""
    if not shutil.which("perf"):
        raise Failed("perf is not here (package linux-perf)")
    with nginx(settings.server_core) as urls:
        ours = clients.volcanion()
        bills = rounds.alternate([(ours, urls.http)], min(settings.rounds, 3), settings.seconds, settings.client_core)
        us = rounds.Spread.of([bill.cpu_us for bill in bills[ours.name]]).median
        found = profiler.groups(ours.command(urls.http, profiler.SECONDS), settings.client_core, lambda core: ["taskset", "-c", str(core)])
    rows = [f"| {name} | {100 * share:.1f} % | {us * share:.2f} |" for name, share in found if share >= 0.001]
    return f"| of {us:.2f} µs | share | µs a request |\n|---|---|---|\n" + "\n".join(rows) + "\n"


ALL = {f.__name__: f for f in (http, https, http2, profile, pacing, latency, memory, fleet, stages)}
# Those that measure each thing once, in a time of their own.
WITHOUT_ROUNDS = {"memory", "fleet", "stages"}
