"""An agent in a process of its own, so that its memory is its own too: with etcd, a master and a target."""

import contextlib
import json
import pathlib
import subprocess
import tempfile
import time
import urllib.request

from clients import VOLCANION
from processes import Failed, free_ports, server

TEN_STEPS = """
name: ten-series
target: {target}
scenarios:
  browse:
    executor: constant-vus
    vus: 64
    duration: {seconds}s
    steps: [{steps}]
"""

IDLE = """
name: idle
target: {target}
http: {{ connections: 64 }}
scenarios:
  wait:
    executor: constant-vus
    vus: {vus}
    duration: {seconds}s
    graceful_stop: 1s
    steps: [{{ name: a, get: / }}, {{ think: 20s..40s }}]
"""


def ten_steps(target, seconds):
    steps = ", ".join(f"{{ name: step-{n}, get: /{n} }}" for n in range(10))
    return TEN_STEPS.format(target=target, seconds=seconds, steps=steps), 64


def idle(vus):
    return lambda target, seconds: (IDLE.format(target=target, seconds=seconds, vus=vus), vus)


# Name, plan, seconds.
PLANS = [
    ("64 VUs with a connection each, 10 series", ten_steps, 10),
    ("10,000 VUs in think time, 64 shared connections", idle(10_000), 20),
    ("100,000 VUs in think time, 64 shared connections", idle(100_000), 30),
]


class Agent:
    def __init__(self, process, master, plan):
        self._process, self._master, self._plan = process, master, plan
        self.vus = 0

    def load(self, seconds):
        """Resident bytes before the load, and the most while it goes."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            text, self.vus = self._plan(seconds)
            file.write(text)
            file.flush()
            before = self._status("VmRSS")
            command = [str(VOLCANION), "run", file.name, "--master", self._master, "--json"]
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 90)
        if result.returncode:
            raise Failed(result.stderr.strip()[-300:].replace("\n", " "))
        totals = json.loads(result.stdout)
        if totals["failed_requests"]:
            raise Failed(f"{totals['failed_requests']} of {totals['total_requests']} requests failed: {totals['errors']}")
        return before, self._status("VmHWM")

    def _status(self, field):
        text = pathlib.Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(text.split(f"{field}:")[1].split()[0]) * 1024


@contextlib.contextmanager
def agent(settings, plan):
    """An agent of one core that nothing was asked of yet."""
    etcd_port, peer_port, rest_port, grpc_port, target_port = free_ports(5)
    at = "http://127.0.0.1:{}".format
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        etcd = ["etcd", "--data-dir", f"{folder}/etcd", "--log-level", "error", "--listen-client-urls", at(etcd_port), "--advertise-client-urls", at(etcd_port)]
        etcd += ["--listen-peer-urls", at(peer_port), "--initial-advertise-peer-urls", at(peer_port), "--initial-cluster", f"default={at(peer_port)}"]
        stack.enter_context(server(etcd, settings.server_core, etcd_port))
        target = [str(VOLCANION), "target", "--listen", f"127.0.0.1:{target_port}"]
        stack.enter_context(server(target, settings.server_core, target_port))
        master = [str(VOLCANION), "master", "--listen", f"127.0.0.1:{rest_port}", "--etcd", at(etcd_port), "--store", f"sqlite:{folder}/runs.db"]
        stack.enter_context(server(master, settings.server_core, rest_port))
        words = ["--listen", f"127.0.0.1:{grpc_port}", "--metrics-listen", "127.0.0.1:0", "--etcd", at(etcd_port), "--id", "measured", "--cores", "1"]
        process = stack.enter_context(server([str(VOLCANION), "agent", *words], settings.client_core, grpc_port))
        _await_agent(at(rest_port))
        yield Agent(process, at(rest_port), lambda seconds: plan(at(target_port), seconds))


def _await_agent(master):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{master}/api/v1/agents", timeout=2) as answer:
            if json.load(answer):
                return
        time.sleep(0.1)
    raise Failed("the agent does not come up")
