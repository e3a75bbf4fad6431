"""Single weights of a file without decoding their tensor: :meth:`File.lookup`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncodec._core import WeightlessDecoder, crc32c
from nncodec.container.descriptor import Descriptor
from nncodec.container.walk import Chunk
from nncodec.dtypes import BY_CODE
from nncodec.errors import DecodeError
from nncodec.indices import coordinates

__all__ = ["TensorLookup", "checked_payload"]

_AT_ONCE = 1 << 14  # positions


def checked_payload(chunk: Chunk, descriptor: Descriptor) -> memoryview:
    """A chunk's payload, its checksum compared."""
    if crc32c(chunk.payload, chunk.seed) != chunk.crc:
        raise DecodeError(
            f"checksum of chunk {chunk.number} is wrong: the data is damaged",
            offset=chunk.offset,
            tensor=descriptor.label,
        )
    return memoryview(chunk.payload)


class TensorLookup:
    """A tensor that is looked up, not decoded: index it as a numpy array.

    Any index that numpy takes gives a new numpy array: ``table[rows, cols]`` with arrays of integers, slices, masks, or
    ``...``. Each element costs some tens of nanoseconds, memory only what is asked for.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(
        self,
        descriptor: Descriptor,
        inner: int,
        decoder: WeightlessDecoder,
        payload: Callable[[int], memoryview],
        check: Callable[[], None],
    ) -> None:
        self.shape = descriptor.tensors[inner].shape
        self.dtype = BY_CODE[descriptor.dtype].numpy()
        self._first = sum(tensor.elements for tensor in descriptor.tensors[:inner])
        self._label = descriptor.label
        self._chunk_elements = descriptor.chunk_elements
        self._decoder = decoder
        self._payload = payload
        self._check = check  # that the file is open
        self._payloads: dict[int, memoryview] = {}

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without dimensions has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<nncodec lookup: {self.shape} {self.dtype}>"

    def __getitem__(self, index: Any) -> NDArray[Any]:
        places = self._places(index)
        shape = np.broadcast_shapes(*(place.shape for place in places)) if places else ()
        out = np.empty(shape, self.dtype)
        flat = out.reshape(-1)
        # Coordinates may be views of a few numbers: only so many positions at a time are written out.
        walk = np.nditer(
            places or [np.zeros((), np.int64)],
            flags=["external_loop", "buffered", "zerosize_ok"],
            order="C",
            buffersize=_AT_ONCE,
        )
        done = 0
        for block in walk:
            coordinates: Sequence[NDArray[np.int64]] = block if isinstance(block, tuple) else (block,)
            positions = np.zeros(coordinates[0].size, np.int64)
            for size, coordinate in zip(self.shape, coordinates, strict=False):
                positions *= size
                positions += coordinate
            positions += self._first
            self._fill(positions, flat[done : done + positions.size])
            done += positions.size
        return out

    def _places(self, index: Any) -> list[NDArray[np.int64]]:
        """The coordinates of what an index selects: one array for each dimension."""
        found = coordinates(index, self.shape)
        if found is not None:
            return found
        places = []  # masks, and what raises IndexError: numpy says it of arrays as long as the dimensions
        for axis, size in enumerate(self.shape):
            along = np.arange(size).reshape([size if a == axis else 1 for a in range(len(self.shape))])
            places.append(np.asarray(np.broadcast_to(along, self.shape)[index]))
        if not self.shape:
            np.zeros(())[index]  # an index that does not fit raises IndexError
        return places

    def _fill(self, positions: NDArray[np.int64], out: NDArray[Any]) -> None:
        self._check()
        if not positions.size:
            return
        chunks, inner = np.divmod(positions, self._chunk_elements)
        steps = np.diff(chunks)
        if (steps >= 0).all():
            ordered, order = chunks, None
        else:
            order = np.argsort(chunks, kind="stable")
            ordered, inner = chunks[order], inner[order]
            steps = np.diff(ordered)
        first = [0, *(np.flatnonzero(steps) + 1).tolist()]
        found = out if order is None else np.empty(positions.size, self.dtype)
        touched = ordered[first].tolist()
        for chunk in touched:
            if chunk not in self._payloads:
                self._payloads[chunk] = self._payload(chunk)
        try:
            self._decoder.look_up(
                touched,
                [self._payloads[chunk] for chunk in touched],
                [*first, positions.size],
                inner.astype(np.uint32),
                found.view(np.uint8),
            )
        except DecodeError as error:
            raise DecodeError(error.cause, tensor=self._label) from None
        if order is not None:
            out[order] = found
