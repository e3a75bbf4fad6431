"""Tables for people, JSON for machines; both say where the figures come from."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.suite import Options, Row
from nncodec import _core

__all__ = ["as_json", "as_table", "environment"]

_PEERS = ("numpy", "torch", "zstandard", "zipnn", "openzl")


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, object]:
    """The machine and the software that the figures belong to."""
    return {
        "nncodec": _core.__version__,
        "compiler": _core.compiler,
        "isa": _core.isa(),
        "cpu": _cpu_model(),
        "cores": _core.hardware_threads(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _versions(),
    }


def as_json(suite: str, options: Options, rows: Sequence[Row]) -> str:
    """One JSON document: suite, environment, rows, notes."""
    document = {
        "suite": suite,
        "threads": options.threads,
        "rounds": options.rounds,
        "environment": environment(),
        "rows": list(rows),
        "notes": options.notes,
    }
    return json.dumps(document, indent=1)


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def as_table(rows: Sequence[Row], options: Options) -> str:
    """Columns in the order in which rows name them, numbers to the right, the environment below."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    text = [all(isinstance(row.get(column, ""), str) for row in rows) for column in columns]
    lines = []
    for line in cells:
        padded = [f"{c:<{w}}" if t else f"{c:>{w}}" for c, w, t in zip(line, widths, text, strict=True)]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "-" * len(lines[0]))
    env = environment()
    lines += [
        "",
        f"{env['cpu']}, {env['cores']} cores, load {env['load']}; {env['system']}; isa {env['isa']}",
        f"nncodec {env['nncodec']} ({env['compiler']}); python {env['python']}; threads {options.threads}",
        ", ".join(f"{name} {number}" for name, number in _versions().items()),
        *options.notes,
    ]
    return "\n".join(lines)
