"""Processes of a measurement: pinned to a core, ended by their id, and billed for what they used."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import tempfile
import time


class Failed(Exception):
    """A client did not do what it was started for; the text says what."""


@dataclasses.dataclass
class Finished:
    """A process that ran to its end."""

    text: str
    errors: str
    cpu_s: float  # user + system, of the process and all its threads
    elapsed_s: float
    resident_peak_bytes: int


def cores():
    """The core of the clients and that of the servers; the same one on a machine of one core."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[0], ours[1 % len(ours)]


def run(command, core, limit_s):
    """Runs a command on a core to its end. Fails where it says that it failed, or is not done within the limit."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, preexec_fn=lambda: pin(core))
        status, usage = _reap(child, began + limit_s)
        elapsed_s = time.monotonic() - began
        text, errors = _text(out), _text(err)
    if status != 0:
        raise Failed(f"`{' '.join(command)}` ended with {status}: {(errors or text)[-400:]}")
    return Finished(text, errors, usage.ru_utime + usage.ru_stime, elapsed_s, usage.ru_maxrss * 1024)


def _reap(child, until):
    # Not Popen.wait: the bill of this one process is wanted, not that of all children together.
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode, usage
        if time.monotonic() > until:
            child.kill()
        time.sleep(0.02)


def _text(file):
    file.seek(0)
    return file.read().decode(errors="replace")


def pin(core):
    os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def server(command, core, port=None, stop=signal.SIGTERM, **more):
    """A process that serves while the block goes on; with a port, the block begins once it is open."""
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: pin(core), **more,
    )
    try:
        if port:
            await_port(port, child, command[0])
        yield child
    finally:
        child.send_signal(stop)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def await_port(port, child, name):
    until = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if child.poll() is not None or time.monotonic() > until:
            raise Failed(f"{name} does not listen on port {port}")
        time.sleep(0.05)


def free_ports(count):
    """Ports of loopback that are free now."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
