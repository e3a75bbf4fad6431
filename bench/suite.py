"""What the runner and the suites agree on."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeAlias

__all__ = ["Options", "Row"]

# One line of the outcome: column name to value, in the order to be shown. The first column names the entry.
Row: TypeAlias = dict[str, "str | int | float | None"]


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes
    ----------
    data : Path | None
        Folder of data sets and networks; None: the default of :func:`bench.datasets.data_dir`.
    threads : int
        Threads that contenders may use.
    rounds : int
        How often each contender is timed; medians are taken over these.
    only : str
        Glob pattern of the entries to run.
    notes : list of str
        What a suite wants said below its table: peers not installed, data not found.
    """

    data: Path | None = None
    threads: int = 1
    rounds: int = 5
    only: str = "*"
    notes: list[str] = field(default_factory=list)

    def wants(self, name: str) -> bool:
        """Whether the entry of this name is to run."""
        return fnmatch(name, self.only)

    def note(self, text: str) -> None:
        """Say something below the table, once."""
        if text not in self.notes:
            self.notes.append(text)
