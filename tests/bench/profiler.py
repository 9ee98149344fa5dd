"""Where a request's time goes: samples of `volcanion run -c 64` by perf, grouped, as microseconds a request."""

import collections
import re
import subprocess
import tempfile

from processes import Failed

SECONDS = 4

# The first that fits names the group: a system call somewhere in the stack, else the newest frame's symbol.
KERNEL = [
    (r"__x64_sys_sendto", "kernel: send, with all that loopback does for both ends in it"),
    (r"__x64_sys_recvfrom", "kernel: receive"),
    (r"__x64_sys_epoll_wait", "kernel: epoll"),
    (r"__x64_sys_(timerfd|futex|write)", "kernel: timer and waking other threads"),
]
OURS = [
    (r"\[vdso\]", "the clock"),
    (r"libc", "libc: the system calls' wrappers"),
    (r"httparse|::http1::|::send::", "exchange and HTTP/1.1 codec"),
    (r"hdrhistogram|::record::|::series::", "recorder and histograms"),
    (r"tokio::|mio::", "runtime: tasks, readiness"),
    (r"volcanion_agent::(engine|schedule)", "engine: VUs, schedule (and what is inlined there)"),
]


def groups(command, core, taskset):
    """[(group, share of the load's samples)], the greatest first."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        load = subprocess.run(
            ["perf", "record", "-q", "-F", "4999", "-g", "-o", data, *taskset(core), *command],
            capture_output=True, text=True, check=False, timeout=SECONDS + 60,
        )
        if load.returncode:
            raise Failed(f"perf may not record here: {load.stderr[-200:]}")
        script = subprocess.run(["perf", "script", "-i", data, "-F", "comm,ip,sym,dso"], capture_output=True, text=True, check=True)
    counts = collections.Counter(_group(block) for block in script.stdout.split("\n\n") if "load-" in block.split("\n", 1)[0])
    total = sum(counts.values())
    if not total:
        raise Failed("perf saw no load core")
    return [(name, count / total) for name, count in counts.most_common()]


def _group(block):
    frames = block.strip("\n").split("\n")[1:]
    if any("[kernel" in frame or "kallsyms" in frame for frame in frames):
        return next((name for pattern, name in KERNEL if any(re.search(pattern, f) for f in frames)), "kernel: entry, interrupts, the rest")
    newest = frames[0] if frames else ""
    return next((name for pattern, name in OURS if re.search(pattern, newest)), "the rest of our process")
