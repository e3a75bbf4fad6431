"""The figures of a report: per tensor, and over the file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncodec.codecs import CODECS, LossyCodec
from nncodec.reader import File, TensorInfo
from nncodec.report.curve import Curve, curves
from nncodec.tensors import is_tensor

__all__ = ["BINS", "Report", "TensorReport", "gather"]

BINS = 64
_BATCH_BYTES = 16 << 20  # decoded together
_AT_ONCE = 1 << 20  # elements whose error and histogram are counted at a time
_HISTOGRAMS = (
    400  # of the tensors with most elements; others have none, so that a page of many tensors stays small
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TensorReport:
    """One tensor.

    Attributes
    ----------
    info : TensorInfo
        What ``File.info`` tells.
    elements : int
        Number of elements.
    rel_mse : float or None
        Squared error over squared norm of the original; None without an original, or for integers. Infinite where a
        value that is not finite is not the original's; None, too, where squares leave double precision.
    largest_error : float or None
        The greatest absolute error.
    low, high : float
        Range of both histograms; (0, 0) where there are none.
    decoded, original : list of int
        Counts of ``BINS`` bins of equal width; empty where there are none.
    """

    info: TensorInfo
    elements: int
    rel_mse: float | None = None
    largest_error: float | None = None
    low: float = 0.0
    high: float = 0.0
    decoded: list[int] = field(default_factory=list)
    original: list[int] = field(default_factory=list)

    @property
    def snr_db(self) -> float | None:
        """Signal-to-noise ratio in dB; infinite for a tensor that came back exactly."""
        if self.rel_mse is None:
            return None
        return math.inf if self.rel_mse == 0 else -10 * math.log10(self.rel_mse)


@dataclass(frozen=True)
class Report:
    """Everything that a page or a picture shows.

    Attributes
    ----------
    name, against : str
        Names of the file and of the original ("" without one).
    file_bytes, raw_bytes, weights : int
        Size, decoded size, number of elements (aliases not counted).
    rel_mse : float or None
        Over the float tensors of two or more dimensions.
    metadata : mapping
        The file's.
    tensors : list of TensorReport
        In the file's order.
    curves : list of Curve
        Size against error of the original under lossy codecs.
    """

    name: str
    against: str
    file_bytes: int
    raw_bytes: int
    weights: int
    rel_mse: float | None
    metadata: Mapping[str, str]
    tensors: list[TensorReport]
    curves: list[Curve]


def gather(
    file: File,
    name: str,
    original: Mapping[str, Any] | None = None,
    against: str = "",
    *,
    curve: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Read a file, and compare it with the original where there is one.

    Parameters
    ----------
    file : File
        An open file.
    name, against : str
        How to call the two.
    original : mapping of str to array or tensor, optional
        What was encoded. Tensors that only one side has are not compared.
    curve : bool
        Whether to encode the original at a few other sizes (needs an original; takes the time of some encodings).
    threads : int, optional
        For encoding the curves; None is all cores.
    progress : callable, optional
        Called with (steps done, steps in all).

    Raises
    ------
    ValueError
        If nothing of the original is in the file, or a tensor has another shape there.
    """
    infos = [file.info(key) for key in file]
    stored = [info for info in infos if info.alias_of is None]
    if original is not None and not any(info.name in original for info in stored):
        raise ValueError(f"{against or 'the original'} has none of the tensors of {name}")
    wanted = {i.name for i in sorted(stored, key=_elements, reverse=True)[:_HISTOGRAMS]}
    found = {}
    error, power = 0.0, 0.0
    for batch in _batches(stored):
        decoded = file.load([info.name for info in batch])
        for info in batch:
            before = None if original is None else original.get(info.name)
            tensor, squared, norm = _tensor(info, decoded.pop(info.name), before, info.name in wanted)
            found[info.name] = tensor
            if len(info.shape) >= 2:
                error, power = error + squared, power + norm
        if progress is not None:
            progress(len(found), len(stored))
    tensors = [found[i.name] if i.name in found else TensorReport(i, _elements(i)) for i in infos]
    compared = original is not None and power > 0
    rel_mse = _relative(error, power) if compared else None
    weights = sum(_elements(info) for info in stored)
    drawn = []
    if compared and curve:
        assert original is not None
        same = {
            i.name: original[i.name] for i in infos if i.name in original
        }  # an original may hold much else
        compared_weights = sum(_elements(i) for i in stored if i.name in original)
        drawn = curves(same, compared_weights, _lossy(stored), rel_mse or 0.0, threads)
    return Report(
        name=name,
        against=against,
        file_bytes=file.file_bytes,
        raw_bytes=sum(info.nbytes for info in stored),
        weights=weights,
        rel_mse=rel_mse,
        metadata=file.metadata(),
        tensors=tensors,
        curves=drawn,
    )


def _elements(info: TensorInfo) -> int:
    return math.prod(info.shape)


def _batches(infos: Sequence[TensorInfo]) -> Iterator[list[TensorInfo]]:
    """Tensors to decode together: small ones share records, which are decoded as a whole."""
    batch: list[TensorInfo] = []
    size = 0
    for info in infos:
        if batch and size + info.nbytes > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(info)
        size += info.nbytes
    if batch:
        yield batch


def _lossy(infos: Sequence[TensorInfo]) -> list[str]:
    """The file's lossy codecs, those with most weights first."""
    weights: dict[str, int] = {}
    for info in infos:
        if issubclass(CODECS[info.codec], LossyCodec):
            weights[info.codec] = weights.get(info.codec, 0) + _elements(info)
    return sorted(weights, key=lambda codec: -weights[codec])


def _tensor(
    info: TensorInfo, decoded: Any, original: Any, histogram: bool
) -> tuple[TensorReport, float, float]:
    """The figures of one tensor, its squared error and the squared norm of the original."""
    after = _numbers(decoded)
    before = None
    if original is not None:
        shape = tuple(getattr(original, "shape", ()))
        if shape != info.shape:
            raise ValueError(
                f"tensor {info.name!r} has shape {info.shape} in the file and {shape} in the original"
            )
        before = _numbers(original)
    elements = _elements(info)
    if after is None or after.size == 0 or (original is not None and before is None):
        return TensorReport(info, elements), 0.0, 0.0
    sides = [after] if before is None else [after, before]
    low, high = _range(sides) if histogram else (0.0, 0.0)
    counts = [_histogram(side, low, high) for side in sides] if histogram else [[], []]
    if before is None:
        return TensorReport(info, elements, low=low, high=high, decoded=counts[0]), 0.0, 0.0
    squared, norm, largest = 0.0, 0.0, 0.0
    for at in range(0, after.size, _AT_ONCE):
        a, b = (side[at : at + _AT_ONCE].astype(np.float64) for side in (after, before))
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(over="ignore", invalid="ignore"):  # infinite is what such an error is
            difference = np.where(same, 0.0, a - b)
            difference[np.isnan(difference)] = math.inf
            squared += float((difference * difference).sum())
            finite = b[np.isfinite(b)]
            norm += float((finite * finite).sum())
        largest = max(largest, float(np.abs(difference).max()))
    rel_mse = _relative(squared, norm)
    report = TensorReport(info, elements, rel_mse, largest, low, high, counts[0], counts[1])
    return report, squared, norm


def _relative(squared: float, norm: float) -> float | None:
    """Squared error over squared norm; None where the norm leaves double precision."""
    if squared == 0:
        return 0.0
    if norm == 0:
        return math.inf
    return squared / norm if math.isfinite(norm) else None


def _numbers(tensor: Any) -> NDArray[Any] | None:
    """The elements as floats in one dimension (complex ones as two); None for integers, booleans and unknown types."""
    if not is_tensor(tensor):
        return None
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return None
        if tensor.is_complex():
            tensor = tensor.resolve_conj()
        elif tensor.element_size() < 4:
            tensor = tensor.float()
        tensor = tensor.numpy()
    array = np.ascontiguousarray(tensor).reshape(-1)
    if array.dtype.kind == "c":
        return array.view(array.real.dtype)
    if array.dtype.kind == "f" and array.dtype.itemsize >= 4:
        return array
    # float16, and the types of ml_dtypes, which have no kind of their own (records and int4 share theirs)
    return array.astype(np.float32) if "float" in array.dtype.name else None


def _range(sides: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Of finite values, to six deviations: one far outlier would leave all others in one bin."""
    low, high = math.inf, -math.inf
    for side in sides:
        least, most, count, power = math.inf, -math.inf, 0, 0.0
        for piece in _finite_pieces(side):
            least, most = min(least, float(piece.min())), max(most, float(piece.max()))
            count += piece.size
            with np.errstate(over="ignore"):  # no outliers are cut off then
                power += float((piece * piece).sum())
        if count == 0:
            continue
        reach = 6 * math.sqrt(power / count) or 1.0
        middle = float(np.median(next(_finite_pieces(side))))
        low = min(low, max(least, middle - reach))
        high = max(high, min(most, middle + reach))
    if low > high:
        return 0.0, 0.0
    around = max(0.5, abs(low) / 2)
    return (low, high) if low < high else (low - around, high + around)


def _finite_pieces(side: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """The finite values, some at a time."""
    for at in range(0, side.size, _AT_ONCE):
        piece = side[at : at + _AT_ONCE].astype(np.float64)
        piece = piece[np.isfinite(piece)]
        if piece.size:
            yield piece


def _histogram(side: NDArray[Any], low: float, high: float) -> list[int]:
    """Counts by bin; what lies outside counts in the first or last one, what is not finite nowhere.

    Empty where the range cannot be cut into bins: nothing finite, wider or narrower than double precision divides.
    """
    if not (low < high and math.isfinite(high - low) and math.isfinite(BINS / (high - low))):
        return []
    counts = np.zeros(BINS, np.int64)
    for piece in _finite_pieces(side):
        with np.errstate(over="ignore"):  # an outlier goes to the last bin all the same
            places = np.clip((piece - low) * (BINS / (high - low)), 0, BINS - 1).astype(np.int64)
        counts += np.bincount(places, minlength=BINS)
    return [int(c) for c in counts]
