#!/usr/bin/env python3
"""Measures this engine beside other load clients and prints the tables; with --write they go into docs/performance.md too.

Everything is on loopback: nginx answers 200 `ok` from one core, one client at a time runs on another, rounds alternate. What the
machine does not have is skipped with a word. `make bench` builds and brings what is needed first.
"""

import argparse
import os
import pathlib
import platform
import re
import sys

sys.dont_write_bytecode = True

import sections
from clients import ROOT, VOLCANION
from processes import Failed

PAGE = ROOT / "docs/performance.md"


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(sections.ALL)}; all where none is named")
    words.add_argument("--rounds", type=int, default=5, help="alternating rounds (5)")
    words.add_argument("--seconds", type=int, default=5, help="of each client in each round (5)")
    words.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.relative_to(ROOT)}")
    given = words.parse_args()
    unknown = [name for name in given.sections if name not in sections.ALL]
    if unknown:
        words.error(f"no section is called {', '.join(unknown)}; there are {', '.join(sections.ALL)}")
    if not VOLCANION.exists():
        words.error(f"{VOLCANION.relative_to(ROOT)} is not there; `make build` makes it")
    settings = sections.Settings(given.rounds, given.seconds)
    if settings.client_core == settings.server_core:
        print("This machine has one core: client and server share it, so requests/s say nothing, and CPU ratios little.", file=sys.stderr)
    tables = {}
    for name in given.sections or sections.ALL:
        print(f"{name}: {sections.ALL[name].__doc__}", file=sys.stderr)
        try:
            tables[name] = f"{sections.ALL[name](settings)}\n{circumstances(settings, name)}\n"
        except Failed as failed:
            print(f"  skipped: {failed}", file=sys.stderr)
            continue
        print(f"\n## {name}\n\n{tables[name]}", flush=True)
    if given.write:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")
    return 0 if tables else 1


def circumstances(settings, name):
    """What to know of the machine beside a table."""
    cpus = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = re.search(r"model name\s*:\s*(.*)", cpus)
    cores = os.cpu_count()
    load = os.getloadavg()[2]
    shared = " (one core for client and server!)" if settings.client_core == settings.server_core else ""
    rounds = "" if name in sections.WITHOUT_ROUNDS else f"{settings.rounds} rounds of {settings.seconds} s; "
    return (
        f"*{rounds}{model.group(1) if model else platform.machine()}, {cores} cores{shared}, "
        f"Linux {platform.release()}; load average of the last 15 minutes {load:.1f}.*"
    )


def with_tables(page, tables):
    """The page with each table between its marks."""
    for name, table in tables.items():
        begin, end = f"<!-- bench {name} -->\n", f"<!-- end {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise SystemExit(f"{PAGE.relative_to(ROOT)} has no place for the table `{name}`")
        before, rest = page.split(begin)
        page = before + begin + table + end + rest.split(end)[1]
    return page


if __name__ == "__main__":
    sys.exit(main())
