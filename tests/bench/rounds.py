"""Alternating rounds: every client once a round, so that what else the machine does meets them all alike."""

import dataclasses
import statistics
import sys

from processes import run


@dataclasses.dataclass
class Bill:
    """What one client was in one round."""

    cpu_us: float  # for each request
    per_second: float
    resident_peak_bytes: int


@dataclasses.dataclass
class Spread:
    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values):
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits=2):
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}–{self.most:.{digits}f})"


def alternate(clients, rounds, seconds, core):
    """{name: [Bill of each round]} of (client, URL) pairs. Every other round goes the other way round."""
    bills = {client.name: [] for client, _ in clients}
    for turn in range(rounds):
        for client, url in clients if turn % 2 == 0 else reversed(clients):
            done = run(client.command(url, seconds), core, seconds + 60)
            count = client.completed(done.text)
            bill = Bill(done.cpu_s / count * 1e6, count / seconds, done.resident_peak_bytes)
            bills[client.name].append(bill)
            print(f"  round {turn + 1}  {client.name:28} {bill.cpu_us:6.2f} us CPU each, {bill.per_second:8.0f}/s", file=sys.stderr)
    return bills


def ratios(bills, base):
    """{name: (CPU ratio, requests/s ratio)} to one of them, each as a spread over the rounds."""
    return {
        name: (
            Spread.of([ours.cpu_us / theirs.cpu_us for ours, theirs in zip(of, bills[base])]),
            Spread.of([ours.per_second / theirs.per_second for ours, theirs in zip(of, bills[base])]),
        )
        for name, of in bills.items()
    }
