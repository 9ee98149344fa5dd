"""The load clients that are held side by side: how each is started, and how many requests it says that it completed."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
from typing import Callable

from processes import Failed

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOLCANION = ROOT / "target/release/volcanion"


@dataclasses.dataclass
class Client:
    name: str
    command: Callable[[str, int], list]  # URL, seconds → words
    completed: Callable[[str], int]  # what it printed → requests that were answered as they should be
    version: str


def tool(name):
    """Where a tool is, or nothing."""
    brought = ROOT / "target/test-tools/bin" / name
    return str(brought) if brought.exists() else shutil.which(name)


def version_of(name, flag="--version", pattern=r"\d+\.\d+[\w.+-]*"):
    result = subprocess.run([tool(name), flag], capture_output=True, text=True, check=False)
    found = re.search(pattern, result.stdout + result.stderr)
    return found.group(0) if found else "?"


def number(pattern, *bad):
    """Reads a count by a pattern; what matches one of `bad` with a number above zero is a failure."""

    def read(text):
        for wrong in bad:
            found = re.search(wrong, text)
            if found and int(found.group(1)) > 0:
                raise Failed(f"it counted failures: {found.group(0)}")
        found = re.search(pattern, text)
        if not found:
            raise Failed(f"it does not say how many requests it made: {text[-200:]}")
        return int(found.group(1))

    return read


def volcanion(name="volcanion run", *flags):
    def completed(text):
        result = json.loads(text)
        if result["failed_requests"]:
            raise Failed(f"{result['failed_requests']} requests failed: {result['errors']}")
        return result["total_requests"]

    def command(url, seconds):
        return [str(VOLCANION), "run", url, "-c", "64", "-d", f"{seconds}s", "--json", *flags]

    return Client(name, command, completed, subprocess.run([VOLCANION, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1])


def has_flag(flag):
    """Whether `volcanion run` takes a flag."""
    help_text = subprocess.run([VOLCANION, "run", "--help"], capture_output=True, text=True, check=True).stdout
    return f"{flag} " in help_text or f"{flag}\n" in help_text


def _wrk(path):
    read = number(r"(\d+) requests in", r"Non-2xx or 3xx responses: (\d+)")
    return Client("wrk -t1 -c64", lambda url, s: [path, "-t1", "-c64", f"-d{s}s", url], read, version_of("wrk", "-v", r"\d+\.\d+\.\d+"))


def _ab(path):
    read = number(r"Complete requests:\s+(\d+)", r"Failed requests:\s+(\d+)", r"Non-2xx responses:\s+(\d+)")
    # It makes room for all of its requests before it starts, and -t alone means 50,000 of them.
    command = lambda url, s: [path, "-k", "-q", "-c", "64", "-t", str(s), "-n", str(s * 1_000_000), url]
    return Client("ab -k -c 64", command, read, version_of("ab", "-V"))


H2LOAD = number(r"(\d+) succeeded", r"(\d+) failed", r"(\d+) errored", r"(\d+) timeout")


def _h2load(path):
    command = lambda url, s: [path, "--h1", "-t1", "-c64", "-D", str(s), url]
    return Client("h2load --h1 -t1 -c64", command, H2LOAD, version_of("h2load", pattern=r"\d+\.\d+\.\d+"))


def h2load_2():
    """HTTP/2: 4 connections with 16 streams each."""
    path = tool("h2load")
    command = lambda url, s: [path, "-t1", "-c4", "-m16", "-D", str(s), url]
    return Client("h2load -t1 -c4 -m16", command, H2LOAD, version_of("h2load", pattern=r"\d+\.\d+\.\d+"))


def _oha(path):
    def completed(text):
        result = json.loads(text)
        # What was under way at the end it counts as an error of its own making.
        errors = {what: n for what, n in result["errorDistribution"].items() if "deadline" not in what}
        if errors or set(result["statusCodeDistribution"]) != {"200"}:
            raise Failed(f"not all was well: {errors}, {result['statusCodeDistribution']}")
        return result["statusCodeDistribution"]["200"]

    command = lambda url, s: [path, "--no-tui", "--worker-threads", "1", "-c", "64", "-z", f"{s}s", "--output-format", "json", url]
    return Client("oha -c 64", command, completed, version_of("oha"))


def _hey(path):
    found = subprocess.run(["dpkg-query", "-W", "-f=${Version}", "hey"], capture_output=True, text=True, check=False)
    # It does not tell its version, and stops listing answers at a million.
    return Client("hey -c 64", lambda url, s: [path, "-cpus", "1", "-c", "64", "-z", f"{s}s", url], number(r"\[200\]\s+(\d+) responses"), found.stdout or "?")


OTHERS = {"wrk": _wrk, "h2load": _h2load, "ab": _ab, "oha": _oha, "hey": _hey}


def others(names=tuple(OTHERS)):
    """Those of the other clients that are there, and the names of those that are not."""
    there = {name: tool(name) for name in names}
    return [OTHERS[name](path) for name, path in there.items() if path], [name for name, path in there.items() if not path]


def request_bench(path, name, *words):
    """The bench that makes requests with a part of the engine only."""
    read = number(r"(\d+) requests, 0 failed")
    return Client(name, lambda url, s: [path, url, "64", str(s), *words], read, "")
