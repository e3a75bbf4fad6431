"""Entry point of ``nncodec`` and ``python -m nncodec``; says what to install where the command line's packages lack."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    try:
        from nncodec.cli import cli
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print("nncodec: the command line needs click: pip install 'nncodec-native[cli]'", file=sys.stderr)
        sys.exit(2)
    cli(prog_name="nncodec")


if __name__ == "__main__":
    main()
