"""Tensors of torch and numpy as contiguous bytes, and back.

The only module that knows torch. It never imports torch to look at a tensor: whoever holds one has imported
it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncodec import dtypes
from nncodec._core import new_block
from nncodec.container.descriptor import MAX_BYTES, MAX_DIMENSIONS, ORIGINS
from nncodec.dtypes import BY_CODE, DType
from nncodec.errors import LimitError

__all__ = ["Destination", "Leaf", "framework_for", "is_tensor", "leaf", "tensor_from", "tensors_within"]

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Leaf:
    """A tensor as the encoder sees it; nothing is copied before :meth:`data`.

    Attributes
    ----------
    name : str
        For error messages.
    tensor : torch.Tensor | numpy.ndarray
        Dense, on the CPU or a device.
    dtype : DType
    shape : tuple of int
    origin : int
        0 numpy, 1 torch.
    address : int
        Of the element at index 0; with ``strides`` it says which tensors share memory. 0 for none.
    strides : tuple of int
        In bytes.
    """

    name: str
    tensor: Any
    dtype: DType
    shape: tuple[int, ...]
    origin: int
    device: str
    address: int
    strides: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * self.dtype.size

    @property
    def contiguous(self) -> bool:
        """Whether elements follow each other in row-major order without gaps."""
        if self.elements == 0:
            return True
        step = self.dtype.size
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True

    def data(self) -> Bytes:
        """The elements as little-endian bytes in row-major order: a view where the tensor allows it."""
        return _numpy_bytes(self.tensor) if isinstance(self.tensor, np.ndarray) else _torch_bytes(self.tensor)


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of numpy or torch."""
    if isinstance(value, np.ndarray):
        return True
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def leaf(name: str, value: Any) -> Leaf:
    """Look at a tensor.

    Raises TypeError, naming it, when it is of a kind that the bitstream cannot hold, ValueError for a shape above the
    limits of the format.
    """
    if isinstance(value, np.ndarray):
        found = _numpy_leaf(name, value)
    elif is_tensor(value):
        found = _torch_leaf(name, value)
    else:
        raise TypeError(f"{name!r} is a {_type_name(value)}; expected a torch.Tensor or a numpy.ndarray")
    _check_shape(found)
    return found


def _check_shape(leaf: Leaf) -> None:
    """What every decoder checks, so that nothing is written that none reads."""
    if len(leaf.shape) > MAX_DIMENSIONS:
        raise ValueError(f"{leaf.name!r} has {len(leaf.shape)} dimensions, above {MAX_DIMENSIONS}")
    if math.prod(filter(None, leaf.shape)) * leaf.dtype.size > MAX_BYTES:
        raise ValueError(f"{leaf.name!r} has shape {leaf.shape}, which takes 2^63 bytes or more")


def _type_name(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _numpy_leaf(name: str, value: NDArray[Any]) -> Leaf:
    if type(value) is not np.ndarray and isinstance(
        value, np.ma.MaskedArray
    ):  # numpy.ma is imported when named
        raise TypeError(f"{name!r} is a masked array; fill it and store the mask as a tensor of its own")
    dtype = dtypes.from_numpy(value.dtype)
    if dtype is None:
        raise TypeError(f"{name!r} has numpy type {value.dtype}, which has no element type in the bitstream")
    value = value.view(np.ndarray)
    # In the other byte order, memory cannot be shared with what is stored.
    address = int(value.__array_interface__["data"][0]) if value.size and _little(value.dtype) else 0
    return Leaf(name, value, dtype, value.shape, 0, "cpu", address, value.strides)


def _torch_leaf(name: str, value: Any) -> Leaf:
    import torch

    if value.is_sparse or value.layout != torch.strided:
        raise TypeError(f"{name!r} is sparse or packed ({value.layout}); store it as dense with .to_dense()")
    if value.is_quantized:
        raise TypeError(f"{name!r} is a quantised tensor; store .int_repr() with its scale and zero point")
    if value.is_nested:
        raise TypeError(f"{name!r} is a nested tensor; store its parts with .unbind()")
    if value.is_meta:
        raise TypeError(f"{name!r} is on device 'meta': it has no values")
    dtype = dtypes.from_torch(value.dtype)
    if dtype is None:
        raise TypeError(f"{name!r} has type {value.dtype}, which has no element type in the bitstream")
    if torch.nn.parameter.is_lazy(value):
        raise TypeError(f"{name!r} is not initialised; run its lazy module once on an example")
    if _without_memory(value):
        raise TypeError(f"{name!r} is a {_type_name(value)}: it has no values")
    kind = _type_name(value)
    value = value.detach()
    if type(value) is not torch.Tensor:
        value = value.as_subclass(torch.Tensor)
    try:
        address = value.data_ptr() if value.numel() else 0
    except RuntimeError:
        address = 0
    if not address and value.numel() and value.device.type == "cpu":
        raise TypeError(f"{name!r} is a {kind} without memory of its own; store what it wraps")
    if value.is_conj() or value.is_neg():  # what memory holds is not what the tensor means
        address = 0
    strides = tuple(step * dtype.size for step in value.stride())
    return Leaf(name, value, dtype, tuple(value.shape), 1, str(value.device), address, strides)


def _without_memory(value: Any) -> bool:
    """Whether a tensor stands for one that was never made, as those of torch's FakeTensorMode do."""
    fakes = sys.modules.get("torch._subclasses.fake_tensor")  # loaded by whoever made one
    return fakes is not None and isinstance(value, fakes.FakeTensor)


def _little(dtype: np.dtype[Any]) -> bool:
    return dtype.byteorder != ">" and (sys.byteorder == "little" or dtype.byteorder in "<|")


def _numpy_bytes(array: NDArray[Any]) -> Bytes:
    array = np.ascontiguousarray(array)
    if not _little(array.dtype):
        array = array.byteswap()
    flat: Bytes = array.reshape(-1).view(np.uint8)
    return flat


def _torch_bytes(tensor: Any) -> Bytes:
    import torch

    if tensor.numel() == 0:  # its strides may be anything
        return np.empty(0, np.uint8)
    flat = tensor.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    data: Bytes = flat.view(torch.uint8).numpy()
    return data


def framework_for(origin: int, wanted: str | None) -> str:
    """``"pt"`` or ``"np"``: what was asked for, else what was encoded, if it is installed."""
    if wanted is None:
        return "np" if ORIGINS[origin] == "pt" and not _torch_installed() else ORIGINS[origin]
    if wanted not in ORIGINS:
        raise ValueError(f"framework must be 'pt', 'np' or None, not {wanted!r}")
    return wanted


def _torch_installed() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


# Page faults of fresh memory take longer than decoding into it, on huge pages an eighth of that. So tensors of a size
# between these share blocks; smaller ones lie on the heap, larger ones are blocks of their own. Tensors of one record
# that are asked for together share its memory, into which they were decoded. The price is that a tensor which
# outlives its neighbours keeps their block.
SHARED_FROM = 1 << 17
OWN_FROM = 1 << 22
BLOCK_BYTES = 1 << 23
_ALIGNMENT = 64


class Arena:
    """Fresh memory for the tensors of one call; with ``shared`` False, each for itself."""

    def __init__(self, *, shared: bool = True) -> None:
        self._shared = shared
        self._block: Bytes = np.empty(0, np.uint8)
        self._used = 0

    def take(self, size: int) -> Bytes:
        """Memory that no other tensor uses."""
        if size >= OWN_FROM:
            return np.frombuffer(new_block(size), np.uint8)
        if size < SHARED_FROM or not self._shared:
            return np.empty(size, np.uint8)
        if self._used + size > len(self._block):
            self._block = np.frombuffer(new_block(BLOCK_BYTES), np.uint8)
            self._used = 0
        begin = self._used
        self._used += size + -size % _ALIGNMENT
        return self._block[begin : begin + size]


class Destination:
    """Memory of one tensor of a framework: fresh, or what is given.

    Attributes
    ----------
    bytes : numpy.ndarray
        The memory, uint8, one dimension.
    """

    def __init__(
        self,
        dtype: int,
        shape: Sequence[int],
        framework: str,
        arena: Arena | None = None,
        given: Bytes | None = None,
    ) -> None:
        self.dtype = BY_CODE[dtype]
        self.shape = tuple(shape)
        self.framework = framework
        size = math.prod(shape) * self.dtype.size
        self._memory: Any
        try:
            if given is not None:
                self.bytes: Bytes = given
                self._memory = tensor_from(given, framework)
            elif framework == "pt" and size < SHARED_FROM:
                import torch

                self._memory = torch.empty(size, dtype=torch.uint8)
                self.bytes = self._memory.numpy()
            else:
                self.bytes = (arena or Arena(shared=False)).take(size)
                self._memory = tensor_from(self.bytes, framework)
        except (MemoryError, RuntimeError) as error:
            raise LimitError(f"{size} bytes of memory cannot be had: {error}") from None

    def tensor(self) -> Any:
        """The tensor in this memory."""
        return _shaped(self._memory, self.dtype, self.shape, self.framework)

    def whole(self, framework: str) -> Any:
        """The tensor in this memory, of either framework."""
        if framework == self.framework:
            return self.tensor()
        return _shaped(tensor_from(self.bytes, framework), self.dtype, self.shape, framework)

    def view(self, offset: int, shape: Sequence[int], strides: Sequence[int], framework: str) -> Any:
        """A strided view of this memory; offset and strides count elements. It shares the memory in either
        framework.
        """
        memory = self._memory
        if framework != self.framework:
            memory = tensor_from(self.bytes, framework)
        flat = _shaped(memory, self.dtype, (-1,), framework)
        if 0 in shape:
            return flat[:0].reshape(tuple(shape))
        # The stride of a single element is never used; a wild one must not overflow.
        strides = [step if size > 1 else 1 for size, step in zip(shape, strides, strict=True)]
        if framework == "pt":
            return flat.as_strided(tuple(shape), tuple(strides), offset)
        steps = [step * self.dtype.size for step in strides]
        return np.lib.stride_tricks.as_strided(flat[offset:], tuple(shape), steps)


def tensors_within(
    memory: Bytes,
    dtype: int,
    starts: Sequence[int],
    shapes: Sequence[tuple[int, ...]],
    frameworks: Sequence[str],
) -> list[Any]:
    """Tensors that lie one after the other in a memory. ``starts``, in bytes, has one more than there are tensors.

    Each is a tensor of its own to torch, not a view of one storage, so that it is saved alone.
    """
    row = BY_CODE[dtype]
    native = memory.view(row.numpy())
    make = _torch_maker(row) if "pt" in frameworks else None
    carrier = memory.view(_carrier(row)) if make is not None else native
    size = row.size
    return [
        make(carrier[begin // size : end // size].reshape(shape))
        if make is not None and framework == "pt"
        else native[begin // size : end // size].reshape(shape)
        for begin, end, shape, framework in zip(starts, starts[1:], shapes, frameworks, strict=False)
    ]


def _carrier(row: DType) -> np.dtype[Any]:
    """A numpy type of the same size that torch takes over."""
    native = row.numpy()
    return native if native.isbuiltin == 1 and native.metadata is None else np.dtype(f"i{row.size}")


def _torch_maker(row: DType) -> Callable[[NDArray[Any]], Any]:
    """What makes a torch tensor of this type from an array of its carrier, in its memory.

    An array takes its shape in a tenth of the time that a tensor takes: networks have hundreds of small tensors.
    """
    import torch

    take: Callable[[NDArray[Any]], Any] = torch.from_numpy
    wanted = row.torch()
    if take(np.empty(0, _carrier(row))).dtype == wanted:
        return take
    return lambda array: take(array).view(wanted)


def tensor_from(data: Bytes, framework: str) -> Any:
    """Bytes as a uint8 tensor of a framework, sharing memory."""
    if framework == "np":
        return data
    import torch

    return torch.from_numpy(data)


def _shaped(memory: Any, dtype: DType, shape: tuple[int, ...], framework: str) -> Any:
    native = dtype.torch() if framework == "pt" else dtype.numpy()
    if (
        framework == "pt" and memory.numel() == 0
    ):  # what numpy gave has stride 0, which no view of another type takes
        memory = memory.new_empty(0)
    return memory.view(native).reshape(shape)


def writable_bytes(name: str, out: Any, dtype: int, shape: tuple[int, ...]) -> Bytes:
    """The memory of a caller's tensor that is to be decoded into. Raises TypeError or ValueError if it does
    not fit.
    """
    wanted = BY_CODE[dtype]
    if type(out) is np.ndarray and out.dtype is wanted.numpy() and out.shape == shape:  # as nearly all are
        flags = out.flags
        if flags.c_contiguous and flags.writeable:
            return out.reshape(-1).view(np.uint8)
    target = leaf(name, out)
    if target.dtype != wanted:
        raise TypeError(f"out has type {target.dtype.name}, tensor {name!r} has {wanted.name}")
    if target.shape != shape:
        raise ValueError(f"out has shape {target.shape}, tensor {name!r} has {shape}")
    if target.device != "cpu":
        raise ValueError(f"out is on device {target.device}; only memory of the CPU can be decoded into")
    if not target.contiguous or (target.elements and not target.address):
        raise ValueError("out must be contiguous, row-major and little-endian")
    data = target.data()
    if not data.flags.writeable:
        raise ValueError("out must be writable")
    return data
