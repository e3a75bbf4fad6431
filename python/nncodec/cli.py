"""The command line: ``nncodec encode | decode | info | verify | report | demo | bench``.

Exit status: 0 done, 1 damaged input or failed check, 2 wrong usage; 130 and 141 after Ctrl-C and a closed pipe, as
shells have it. Messages go to standard error, results to standard output.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import click

import nncodec
from nncodec import files
from nncodec.budget import BUDGETS, NoBudgetError
from nncodec.codecs import CODECS
from nncodec.facts import file_facts, file_table, tensor_facts, tensor_text
from nncodec.reader import verify_file
from nncodec.terminal import (
    STREAM,
    CountingFile,
    as_file,
    output_file,
    print_text,
    progress_bar,
    refuse_overwriting,
    shown,
    shown_output,
    size_text,
)

__all__ = ["cli"]

F = TypeVar("F", bound=Callable[..., Any])


class _Failure(click.ClickException):
    exit_code = 1


@contextmanager
def _reading(source: str) -> Iterator[Path]:
    """The input as a file; what is wrong with its bytes is said with its name."""
    try:
        with as_file(source) as path:
            yield path
    except nncodec.NNCodecError as error:
        raise _Failure(f"{shown(source)}: {error}") from error


class _Commands(click.Group):
    """Turns what a command may raise into one line on standard error and the exit status of the contract."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            # Whoever read our output has gone; nothing may be written at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(141)
        except KeyboardInterrupt:
            ctx.exit(130)
        except (nncodec.NNCodecError, files.FileError) as error:
            raise _Failure(str(error)) from error
        except OSError as error:
            raise _Failure(f"{error.filename or 'file'}: {error.strerror or error}") from error
        except MemoryError as error:
            raise _Failure("out of memory") from error


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(nncodec.__version__, prog_name="nncodec")
def cli() -> None:
    """Encode the weights of neural networks into a compact, portable file (.nncz), and decode them again.

    IN is a .safetensors, .pt, .pth, .npz or .nncz file; "-" is standard input or output.
    """


def _common(command: F) -> F:
    """The options that every command has."""
    for option in (
        click.option("-f", "--force", is_flag=True, help="Overwrite the output file."),
        click.option("-q", "--quiet", is_flag=True, help="No progress, no summary."),
        click.option("--json", "as_json", is_flag=True, help="Results as JSON."),
        click.option("--threads", type=click.IntRange(min=1), help="Threads to use (default: all cores)."),
    ):
        command = option(command)
    return command


_input = click.argument("source", metavar="IN", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
_output = click.option("-o", "--output", metavar="OUT", type=click.Path(dir_okay=False, allow_dash=True))


# --- encode


@cli.command()
@_input
@_output
@click.option(
    "--codec",
    "codecs",
    multiple=True,
    metavar="C",
    help="A codec, or PATTERN=CODEC for the tensors whose names match (repeat it; the first match wins). "
    "Default: lossless, or uniform where a budget is given.",
)
@click.option("--snr-db", type=float, metavar="X", help="Budget: signal-to-noise ratio of the weights in dB.")
@click.option("--bits", "bits_per_weight", type=float, metavar="X", help="Budget: bits per weight.")
@click.option("--ratio", type=float, metavar="X", help="Budget: size of the weights over size of the file.")
@click.option(
    "--rel-mse", type=float, metavar="X", help="Budget: squared error over squared norm of the weights."
)
@click.option("--step", type=float, metavar="X", help="Budget: step of the quantiser.")
@_common
def encode(
    source: str,
    output: str | None,
    codecs: tuple[str, ...],
    threads: int | None,
    as_json: bool,
    quiet: bool,
    force: bool,
    **budgets: float | None,
) -> None:
    """Encode a checkpoint. Keeps IN; writes IN's name with the ending .nncz unless told otherwise."""
    budget: dict[str, Any] = {name: value for name, value in budgets.items() if value is not None}
    if len(budget) > 1:
        raise click.UsageError("give one budget, not " + " and ".join(_option(name) for name in budget))
    codec = _parse_codecs(codecs, default="uniform" if budget else "lossless")
    target = output or (STREAM if source == STREAM else str(Path(source).with_suffix(".nncz")))
    refuse_overwriting(target, force, source)

    start = time.perf_counter()
    with _reading(source) as path:
        checkpoint = _read_any(path, source, threads)
        with progress_bar(quiet, "encoding") as progress:
            try:
                with output_file(target) as file:
                    counted = CountingFile(file)
                    nncodec.save_file(
                        checkpoint.tensors,
                        cast("IO[bytes]", counted),
                        codec,
                        metadata=checkpoint.metadata,
                        threads=threads,
                        progress=progress,
                        **budget,
                    )
                    size = counted.size
            except NoBudgetError as error:
                flags = ", ".join(_option(name) for name in BUDGETS)
                raise click.UsageError(f"a lossy codec needs one budget of {flags}") from error
            except ValueError as error:
                raise click.UsageError(str(error)) from error
            except TypeError as error:
                raise _Failure(f"{shown(source)}: {error}") from error
    raw, weights = _size_of(checkpoint.tensors)
    seconds = time.perf_counter() - start
    result = {
        "input": shown(source),
        "output": target,
        "codec": codec,
        **budget,
        "raw_bytes": raw,
        "bytes": size,
        "ratio": raw / size,
        "bits_per_weight": 8 * size / weights if weights else None,
        "seconds": seconds,
    }
    text = f"{shown(source)}: {size_text(raw)} of tensors to {size_text(size)}, ratio {raw / size:.3f}"
    if weights:
        text += f", {8 * size / weights:.3f} bits per weight"
    _say(result, f"{text}, {seconds:.1f} s", as_json, quiet, target)


def _say(result: dict[str, Any], text: str, as_json: bool, quiet: bool, target: str) -> None:
    """The summary of a command that wrote a file; it stays out of a stream of data."""
    if as_json and target != STREAM:
        print_text(json.dumps(result))
    elif as_json:
        click.echo(json.dumps(result), err=True)
    elif not quiet:
        click.echo(text, err=True)


def _parse_codecs(values: Sequence[str], default: str) -> str | dict[str, str]:
    """``NAME`` or several ``PATTERN=NAME``, as encode() takes them."""
    pairs = [value.rpartition("=") for value in values] or [("", "", default)]
    for _, _, name in pairs:
        if name not in CODECS:
            raise click.BadParameter(
                f"unknown codec {name!r}; there are {', '.join(CODECS)}", param_hint="--codec"
            )
    if not pairs[0][1] and len(pairs) == 1:
        return pairs[0][2]
    return {pattern if equals else "*": name for pattern, equals, name in pairs}


def _option(name: str) -> str:
    return "--bits" if name == "bits_per_weight" else "--" + name.replace("_", "-")


def _read_any(path: Path, source: str, threads: int | None) -> files.Checkpoint:
    """The checkpoint in a file of any format, told by the name's ending or else by the first bytes."""
    kind = files.format_of(source) or files.sniff(path)
    if kind is None:
        raise _Failure(f"{shown(source)}: neither .safetensors nor .pt nor .npz nor .nncz")
    if kind == "nncz":
        with nncodec.open(path) as file:
            metadata = dict(file.metadata() or {})
        return files.Checkpoint(nncodec.load_file(path, threads=threads), metadata)
    return files.read(path, kind)


def _size_of(tensors: Any) -> tuple[int, int]:
    """Bytes and elements of all tensors of a checkpoint, nested or not; tied ones count each time."""
    if hasattr(tensors, "nbytes") and hasattr(tensors, "shape"):
        count = 1
        for extent in tensors.shape:
            count *= int(extent)
        return int(tensors.nbytes), count
    children: Any = ()
    if isinstance(tensors, dict):
        children = tensors.values()
    elif isinstance(tensors, (list, tuple)):
        children = tensors
    sizes = [_size_of(child) for child in children]
    return sum(s[0] for s in sizes), sum(s[1] for s in sizes)


# --- decode


@cli.command()
@_input
@_output
@click.option(
    "--recover", is_flag=True, help="Give the whole tensors of a damaged or cut file; status 1 if some lack."
)
@_common
def decode(
    source: str,
    output: str | None,
    recover: bool,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    force: bool,
) -> None:
    """Decode a .nncz file into the format that OUT's ending names: .safetensors, .pt, .pth or .npz.

    Without OUT: IN's name with .safetensors, or .pt where the checkpoint is nested. A stream is .safetensors, or
    torch's format where the checkpoint is nested.
    """
    start = time.perf_counter()
    kind = None
    if output not in (None, STREAM):
        kind = files.format_of(output)
        if kind not in ("safetensors", "pt", "npz"):
            raise click.UsageError(f"{output}: end the name in .safetensors, .pt, .pth or .npz")
        refuse_overwriting(output, force, source)
    with _reading(source) as path:
        checkpoint, damage = _decoded(path, kind, recover, threads, quiet)
        if kind is None:
            kind = "safetensors" if files.is_flat(checkpoint.tensors) else "pt"
            if kind == "pt":  # tensors so far are numpy's
                checkpoint, damage = _decoded(path, kind, recover, threads, quiet)
        if damage is not None and not checkpoint.tensors:
            raise _Failure(f"{shown(source)}: no whole tensor: {damage}")
        target = output or (STREAM if source == STREAM else str(Path(source).with_suffix("." + kind)))
        refuse_overwriting(target, force, source)
        with output_file(target) as file:
            files.write(checkpoint, file, kind)
    raw, _ = _size_of(checkpoint.tensors)
    seconds = time.perf_counter() - start
    result = {"input": shown(source), "output": target, "raw_bytes": raw, "seconds": seconds}
    text = f"{shown(source)}: {size_text(raw)} of tensors to {shown_output(target)}, {seconds:.1f} s"
    if recover:
        result |= {"tensors": len(checkpoint.tensors), "error": str(damage) if damage else None}
        text = f"{len(checkpoint.tensors)} whole tensors; {text}"
    _say(result, text, as_json, quiet, target)
    if damage is not None:
        raise _Failure(f"{shown(source)}: {damage}")


def _decoded(
    path: Path, kind: str | None, recover: bool, threads: int | None, quiet: bool
) -> tuple[files.Checkpoint, nncodec.NNCodecError | None]:
    """The checkpoint in a file, as the format to be written wants it; with ``recover``, the damage too."""
    framework = "pt" if kind == "pt" else "np"
    if recover:
        found = nncodec.recover(path, framework=framework, threads=threads)
        return files.Checkpoint(found.tensors, found.metadata), found.error
    with nncodec.open(path) as file:
        metadata = file.metadata()
    with progress_bar(quiet, "decoding") as progress:
        tensors = nncodec.load_file(path, framework=framework, threads=threads, progress=progress)
    return files.Checkpoint(tensors, metadata), None


# --- info, verify


@cli.command()
@_input
@click.argument("name", required=False)
@_common
def info(source: str, name: str | None, threads: int | None, as_json: bool, quiet: bool, force: bool) -> None:
    """Show what a .nncz file holds: codec, type, shape, bytes and bits per weight of each tensor, or of tensor NAME."""
    with _reading(source) as path, nncodec.open(path) as file:
        if name is None:
            facts = file_facts(file)
            text = file_table(shown(source), facts)
        elif name in file:
            facts = tensor_facts(file.info(name))
            text = tensor_text(facts)
        else:
            raise click.UsageError(f"{shown(source)} has no tensor {name!r}")
    if as_json:
        print_text(json.dumps(facts))
    elif not quiet:
        print_text(text)


@cli.command()
@_input
@_common
def verify(source: str, threads: int | None, as_json: bool, quiet: bool, force: bool) -> None:
    """Check the structure and every checksum of a .nncz file, without decoding it."""
    try:
        with as_file(source) as path:
            size, count = verify_file(path)
    except nncodec.NNCodecError as error:
        if as_json:
            damage = {"cause": error.cause, "offset": error.offset, "tensor": error.tensor}
            print_text(json.dumps({"input": shown(source), "ok": False, **damage}))
        raise _Failure(f"{shown(source)}: {error}") from error
    if as_json:
        print_text(json.dumps({"input": shown(source), "ok": True, "file_bytes": size, "tensors": count}))
    elif not quiet:
        print_text(f"{shown(source)}: {size_text(size)}, {count} tensors, every checksum is right")


# --- report


@cli.command()
@_input
@click.option(
    "--against",
    metavar="ORIGINAL",
    type=click.Path(exists=True, dir_okay=False),
    help="What was encoded: adds errors, histograms of both, and the curve of size against error.",
)
@_output
@click.option("--no-curve", is_flag=True, help="Leave out the curve, which takes several encodings.")
@click.option(
    "--images",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write pictures for papers, too (needs matplotlib).",
)
@_common
def report(
    source: str,
    against: str | None,
    output: str | None,
    no_curve: bool,
    images: Path | None,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    force: bool,
) -> None:
    """Write a page about a .nncz file: where the bytes are, every tensor, and, against the original, the errors.

    The page is one HTML file that needs no network; without -o it is IN's name with the ending .html.
    """
    from nncodec.report import gather, image_paths, page
    from nncodec.report import images as write_images

    if images is not None and find_spec("matplotlib") is None:
        raise click.UsageError("--images needs matplotlib; pip install 'nncodec-native[plot]'")
    target = output or (STREAM if source == STREAM else str(Path(source).with_suffix(".html")))
    if target != STREAM:
        refuse_overwriting(target, force, source)
        if against is not None and os.path.exists(target) and os.path.samefile(target, against):
            raise click.UsageError(f"{target} is the original")
    for picture in [] if images is None else image_paths(images):
        refuse_overwriting(str(picture), force, source)
    original = None if against is None else _original(against, threads)
    with _reading(source) as path, nncodec.open(path, framework="np") as file:
        names = Path(shown(source)).name, Path(against).name if against else ""
        with progress_bar(quiet, "comparing" if against else "reading", unit="tensors") as progress:
            try:
                found = gather(
                    file, names[0], original, names[1], curve=not no_curve, threads=threads, progress=progress
                )
            except ValueError as error:
                raise _Failure(f"{shown(source)}: {error}") from error
    with output_file(target) as to:
        to.write(page(found).encode(errors="backslashreplace"))
    pictures = [] if images is None else write_images(found, images)
    result = {
        "input": shown(source),
        "output": target,
        "against": against,
        "tensors": len(found.tensors),
        "rel_mse": found.rel_mse if found.rel_mse is not None and math.isfinite(found.rel_mse) else None,
        "images": [str(picture) for picture in pictures],
    }
    text = f"{shown(source)}: {len(found.tensors)} tensors to {shown_output(target)}"
    _say(result, text + (f" and {len(pictures)} pictures" if pictures else ""), as_json, quiet, target)


def _original(against: str, threads: int | None) -> dict[str, Any]:
    """The tensors that a file is compared with, by the names that they have in a .nncz file."""
    with _reading(against) as path:
        try:
            return files.flat(_read_any(path, against, threads))
        except TypeError as error:  # no checkpoint: a number, an object
            raise _Failure(f"{against}: {error}") from error


# --- demo, bench


@cli.command()
@_common
def demo(threads: int | None, as_json: bool, quiet: bool, force: bool) -> None:
    """Encode and decode a trained network that comes with the package, and compare its accuracy before and after."""
    from nncodec.demo import run

    report = run(threads)
    if as_json:
        print_text(json.dumps(report.as_dict()))
    elif not quiet:
        print_text(str(report))
    if not report.bit_exact:
        raise _Failure("the lossless codec did not give the same bits back")


@cli.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
@click.pass_context
def bench(ctx: click.Context) -> None:
    """Run the benchmarks of a source checkout: what follows goes to "python -m bench"."""
    root = next(
        (folder for folder in (Path.cwd(), *Path(nncodec.__file__).parents) if _has_bench(folder)), None
    )
    if root is None:
        raise click.UsageError(
            "the benchmarks are in the source repository, not in the package: run this in a checkout of it"
        )
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    done = subprocess.run([sys.executable, "-m", "bench", *ctx.args], env=os.environ | {"PYTHONPATH": path})
    ctx.exit(done.returncode)


def _has_bench(folder: Path) -> bool:
    return (folder / "bench" / "__main__.py").is_file() and (folder / "cpp" / "base").is_dir()
