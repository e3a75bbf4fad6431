"""Smaller networks: size of the file against accuracy, for every method of `nncodec.train` and for chains of them.

One module of this package per method, with ``rows(options)``; an entry is named ``method/network/setting``, so that
``--only 'magnitude/lenet300*'`` runs some. A row ends in an encoded file: its bytes, how many times smaller it is than
the float32 weights, and the accuracy of what decodes. What takes hours is not run here: see ``bench/results``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from bench.suite import Options, Row

__all__ = ["run"]


def run(options: Options) -> Iterator[Row]:
    for info in iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        if hasattr(module, "rows"):
            yield from module.rows(options)
