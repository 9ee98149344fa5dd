"""One master and many agents: real entries, streams and deltas from few processes."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from clients import ROOT, VOLCANION
from processes import Failed, free_ports, pin, server

FLEET = ROOT / "target/release/volcanion-fleet"
SERIES = 20
SAMPLES = 100
SECONDS = 30
# Of the run time, in which the master's CPU is read: after the start's bustle, before the end's.
READ_FROM, READ_TO = 8, 28
PROCESSES = 2
# What a master may use for them all.
CORES_MAX = 1.0
TICKS = os.sysconf("SC_CLK_TCK")


def measure(settings, agents):
    """A run of so many agents; what the master paid for it."""
    etcd_port, peer_port, rest_port = free_ports(3)
    at = "http://127.0.0.1:{}".format
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        etcd = ["etcd", "--data-dir", f"{folder}/etcd", "--log-level", "error", "--unsafe-no-fsync", "--listen-client-urls", at(etcd_port)]
        etcd += ["--advertise-client-urls", at(etcd_port), "--listen-peer-urls", at(peer_port), "--initial-advertise-peer-urls", at(peer_port)]
        stack.enter_context(server([*etcd, "--initial-cluster", f"default={at(peer_port)}"], settings.server_core, etcd_port))
        command = [str(VOLCANION), "master", "--listen", f"127.0.0.1:{rest_port}", "--etcd", at(etcd_port), "--store", f"sqlite:{folder}/runs.db"]
        master = stack.enter_context(server(command, settings.client_core, rest_port))
        fleets = [stack.enter_context(_fleet(settings, at(etcd_port), first, count)) for first, count in _parts(agents)]
        rest = _Rest(at(rest_port))
        _until(f"{agents} agents", 60, lambda: len(rest.get("/agents")) == agents)
        idle = _status(master, "VmRSS")
        run = rest.start(_plan(agents))
        rest.await_going(run)
        began = time.monotonic()
        _sleep_until(began + READ_FROM)
        cpu_s, clock_s = _cpu_s(master), time.monotonic()
        _sleep_until(began + READ_TO)
        cpu_s, clock_s = _cpu_s(master) - cpu_s, time.monotonic() - clock_s
        _sleep_until(began + SECONDS)
        view = rest.ended(run)
        end_late_s = time.monotonic() - began - SECONDS
        result = rest.get(f"/test-runs/{run}/metrics")
        counted = sum(fleet.counted() for fleet in fleets)
        if result["status"] != "completed" or result["total_requests"] != counted:
            raise Failed(f"{agents} agents counted {counted}, the report says {result['total_requests']}; {view['status']}: {view.get('message')}")
        stored = pathlib.Path(f"{folder}/runs.db").stat().st_size + pathlib.Path(f"{folder}/runs.db-wal").stat().st_size
        if cpu_s / clock_s > CORES_MAX:
            raise Failed(f"{agents} agents take {cpu_s / clock_s:.2f} cores of the master, more than {CORES_MAX}")
        return {
            "cores": cpu_s / clock_s,
            "us_each": cpu_s / clock_s / agents * 1e6,
            "idle": idle,
            "peak": _status(master, "VmHWM"),
            "end_late_s": end_late_s,
            "stored": stored / SECONDS,
        }


def _plan(agents):
    steps = [{"name": f"step-{n}", "get": f"/{n}"} for n in range(SERIES)]
    scenario = {"executor": "constant-vus", "vus": agents, "duration": f"{SECONDS}s", "graceful_stop": "0s", "steps": steps}
    return {"name": "many agents", "target": "http://127.0.0.1:9", "agents": {"count": agents}, "scenarios": {"simulated": scenario}}


def _parts(agents):
    each = -(-agents // PROCESSES)
    return [(first, min(each, agents - first)) for first in range(0, agents, each)]


class _Fleet:
    def __init__(self, lines, agents):
        self._lines, self._agents = lines, agents

    def await_start(self, child):
        _until(f"{self._agents} simulated agents", 60, lambda: child.poll() is not None or f"{self._agents} agents are there" in self._lines.read_text())

    def counted(self):
        """What all its loads counted."""
        said = re.search(r"^all parts are over, (\d+) requests", self._lines.read_text(), re.MULTILINE)
        if not said:
            raise Failed(f"not all of {self._agents} simulated agents are done")
        return int(said.group(1))


@contextlib.contextmanager
def _fleet(settings, etcd, first, agents):
    with tempfile.NamedTemporaryFile() as out:
        command = [str(FLEET), "--etcd", etcd, "--agents", str(agents), "--first", str(first), "--series", str(SERIES), "--samples", str(SAMPLES)]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, preexec_fn=lambda: pin(settings.server_core))
        fleet = _Fleet(pathlib.Path(out.name), agents)
        try:
            fleet.await_start(child)
            yield fleet
        finally:
            # Nothing of it is to be kept: it need not hand anything over.
            child.kill()
            child.wait()


class _Rest:
    def __init__(self, base):
        self._base = f"{base}/api/v1"

    def get(self, path):
        with urllib.request.urlopen(self._base + path, timeout=10) as answer:
            return json.load(answer)

    def start(self, plan):
        return self._post("/test-runs/start", {"plan_id": self._post("/test-plans", plan)["id"]})["id"]

    def await_going(self, run):
        def is_going():
            view = self.get(f"/test-runs/{run}")
            if view["status"] == "failed":
                raise Failed(f"the run: {view['message']}")
            return view["status"] == "running"

        _until("the run goes", 60, is_going)

    def ended(self, run):
        _until("the run's end", 90, lambda: self.get(f"/test-runs/{run}")["status"] not in ("running", "stopping"))
        return self.get(f"/test-runs/{run}")

    def _post(self, path, body):
        request = urllib.request.Request(self._base + path, json.dumps(body).encode(), {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Failed(f"{path}: {error.read().decode(errors='replace')[:600]}") from error


def _until(what, limit_s, holds):
    until = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > until:
            raise Failed(f"{what}: not within {limit_s} s")
        time.sleep(0.1)


def _sleep_until(moment):
    time.sleep(max(0, moment - time.monotonic()))


def _cpu_s(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _status(process, field):
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(text.split(f"{field}:")[1].split()[0]) * 1024
