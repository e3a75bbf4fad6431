"""The runner: finds the suites, runs one, prints a table or JSON."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from bench.report import as_json, as_table
from bench.suite import Options, Row


def suites() -> dict[str, ModuleType]:
    """Every module of this folder that has a ``run``."""
    found = {}
    for info in iter_modules([str(Path(__file__).parent)]):
        if info.name.startswith("_"):
            continue
        module = import_module(f"bench.{info.name}")
        if hasattr(module, "run"):
            found[info.name] = module
    return found


def parse(known: dict[str, ModuleType], arguments: list[str] | None) -> tuple[ModuleType, Options, bool]:
    listing = "\n".join(f"  {name:16} {(m.__doc__ or '').splitlines()[0]}" for name, m in known.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Run one suite of benchmarks.",
        epilog=f"suites:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suite", choices=known, metavar="SUITE", help="one of the suites below")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="data folder (default: NNCODEC_DATA, ../shared/data)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of ours and of peers (1)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="turns that each contender takes (5)"
    )
    parser.add_argument("--only", default="*", metavar="GLOB", help="run the entries whose name matches")
    given = parser.parse_args(arguments)
    options = Options(data=given.data, threads=given.threads, rounds=given.rounds, only=given.only)
    return known[given.suite], options, given.json


def main(arguments: list[str] | None = None) -> int:
    suite, options, json = parse(suites(), arguments)
    rows: list[Row] = []
    for row in suite.run(options):
        rows.append(row)
        if sys.stderr.isatty():
            print(
                f"\r\033[K{len(rows)} done: {next(iter(row.values()))}", end="", file=sys.stderr, flush=True
            )
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(as_json(suite.__name__.split(".")[-1], options, rows) if json else as_table(rows, options))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
