"""Nested checkpoints as JSON (docs/format.md#nested-checkpoints). Never pickle: reading one runs no code of
the file.

:func:`flatten` takes a checkpoint apart into named tensors and a document that says how they hang together;
:func:`rebuild` puts it together again, equal in value, type and order.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nncodec import dtypes
from nncodec.errors import DecodeError, LimitError
from nncodec.tensors import is_tensor

__all__ = ["MAX_DEPTH", "flatten", "rebuild"]

MAX_DEPTH = 100
MAX_JSON_BYTES = 1 << 28
_EXACT_INT = 1 << 53  # what every JSON reader holds exactly
_DOUBLE = struct.Struct(">d")
# What may make the missing values of a defaultdict. Any other callable would be code that a file names.
_FACTORIES: dict[str, type] = {kind.__name__: kind for kind in (dict, float, int, list, set, str)}

Node = Any


def flatten(checkpoint: Any) -> tuple[dict[str, Any], bytes | None]:
    """Named tensors in order, and the structure document; None if the checkpoint is a plain dict of tensors.

    Raises TypeError for what no bitstream can hold, ValueError for what is nested too deep or takes too many bytes.
    """
    kept = type(checkpoint) in _WRITERS  # any other mapping is written as a dict
    if isinstance(checkpoint, Mapping) and not kept:
        checkpoint = dict(checkpoint)
    plain = type(checkpoint) in (dict, OrderedDict)
    if plain and all(isinstance(key, str) for key in checkpoint):
        items = list(checkpoint.items())
        if all(is_tensor(value) for _, value in items):
            ordered = type(checkpoint) is OrderedDict
            return dict(items), _dump({"ordered_dict": True}) if ordered else None
    if not isinstance(checkpoint, Mapping | list | tuple) and not is_tensor(checkpoint):
        hint = "; call its state_dict()" if hasattr(checkpoint, "state_dict") else ""
        raise TypeError(
            f"tensors is a {_type_name(checkpoint)}; expected a mapping of names to tensors{hint}"
        )
    walker = _Flattener()
    node = walker.node(checkpoint, ())
    return walker.tensors, _dump(node)


def _dump(node: Node) -> bytes:
    try:
        document = json.dumps(node, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates, which JSON can only write as escapes
        document = json.dumps(node, separators=(",", ":")).encode("ascii")
    if len(document) > MAX_JSON_BYTES:
        raise ValueError(
            f"what the checkpoint holds besides tensors takes {len(document)} bytes as JSON, above {MAX_JSON_BYTES}; "
            "store large values as tensors"
        )
    return document


def _type_name(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _path(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path) or "the checkpoint"


def _advice(value: Any) -> str:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return "its class would be code that a file names; store ._asdict() or tuple()"
    return "convert or drop it"


class _Flattener:
    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}
        self._numbers: dict[str, int] = {}  # by name that several tensors would have: the next one's number
        self._open: set[int] = set()
        self._torch = sys.modules.get("torch")

    def node(self, value: Any, path: tuple[Any, ...]) -> Node:
        if value is None or type(value) in (bool, str):
            return value
        if is_tensor(value):
            return {"tensor": self._name(value, path)}
        if len(path) > MAX_DEPTH:
            raise ValueError(f"the checkpoint is nested more than {MAX_DEPTH} deep")
        writer = _WRITERS.get(type(value))
        if writer is not None:
            if id(value) in self._open:
                raise ValueError(f"{_path(path)} contains itself")
            self._open.add(id(value))
            try:
                return writer(self, value, path)
            finally:
                self._open.discard(id(value))
        if isinstance(value, np.generic):
            return self._numpy_scalar(value, path)
        torch = self._torch
        if torch is not None:
            if isinstance(value, torch.Size):
                return {"torch.Size": list(value)}
            if isinstance(value, torch.dtype):
                return {"torch.dtype": str(value).removeprefix("torch.")}
            if isinstance(value, torch.device):
                return {"torch.device": str(value)}
        raise TypeError(
            f"{_path(path)} is a {_type_name(value)}, which no bitstream can hold; {_advice(value)}"
        )

    def _name(self, value: Any, path: tuple[Any, ...]) -> str:
        base = ".".join(str(key) for key in path) or "tensor"
        name = base
        number = self._numbers.get(base, 2)
        while name in self.tensors:
            name = f"{base}#{number}"
            number += 1
        if name != base:
            self._numbers[base] = number
        self.tensors[name] = value
        return name

    def _numpy_scalar(self, value: np.generic, path: tuple[Any, ...]) -> Node:
        row = dtypes.from_numpy(value.dtype)
        if row is None:
            raise TypeError(
                f"{_path(path)} is a numpy scalar of type {value.dtype}, which no bitstream can hold"
            )
        return {"numpy": [row.name, value.tobytes().hex()]}

    def _items(self, value: Mapping[Any, Any], path: tuple[Any, ...]) -> list[list[Node]]:
        items = []
        for key, item in value.items():
            if is_tensor(key):
                raise TypeError(f"{_path(path)} has a tensor as a key")
            items.append([self.node(key, (*path, key)), self.node(item, (*path, key))])
        return items

    def _default_dict(self, value: defaultdict[Any, Any], path: tuple[Any, ...]) -> Node:
        factory = value.default_factory
        name = None if factory is None else getattr(factory, "__name__", "")
        if name is not None and _FACTORIES.get(name) is not factory:
            raise TypeError(
                f"{_path(path)} is a defaultdict of {factory!r}, which no bitstream can hold (only of "
                f"{', '.join(_FACTORIES)} or None); convert it with dict()"
            )
        return {"defaultdict": [name, self._items(value, path)]}

    def _sequence(self, value: Any, path: tuple[Any, ...]) -> list[Node]:
        return [self.node(item, (*path, number)) for number, item in enumerate(value)]

    def _set(self, value: Any, path: tuple[Any, ...]) -> list[Node]:
        for item in value:
            if is_tensor(item):
                raise TypeError(f"{_path(path)} is a set that holds a tensor")
        nodes = [self.node(item, (*path, "{}")) for item in value]
        return sorted(nodes, key=json.dumps)  # a set has no order; the bytes must have one


def _int(_: _Flattener, value: int, path: tuple[Any, ...]) -> Node:
    return value if abs(value) < _EXACT_INT else {"int": hex(value)}


def _float(_: _Flattener, value: float, path: tuple[Any, ...] = ()) -> Node:
    return value if math.isfinite(value) else {"float": _DOUBLE.pack(value).hex()}


_WRITERS: dict[type, Callable[[_Flattener, Any, tuple[Any, ...]], Node]] = {
    int: _int,
    float: _float,
    complex: lambda w, v, p: {"complex": [_float(w, v.real), _float(w, v.imag)]},
    bytes: lambda w, v, p: {"bytes": base64.b64encode(v).decode()},
    list: _Flattener._sequence,
    tuple: lambda w, v, p: {"tuple": w._sequence(v, p)},
    set: lambda w, v, p: {"set": w._set(v, p)},
    frozenset: lambda w, v, p: {"frozenset": w._set(v, p)},
    dict: lambda w, v, p: {"dict": w._items(v, p)},
    OrderedDict: lambda w, v, p: {"ordered_dict": w._items(v, p)},
    Counter: lambda w, v, p: {"counter": w._items(v, p)},
    defaultdict: _Flattener._default_dict,
}


def rebuild(document: bytes, offset: int, tensors: Mapping[str, Any]) -> Any:
    """The checkpoint that a structure document describes. ``offset`` is the section's place, for errors."""
    if len(document) > MAX_JSON_BYTES:
        raise LimitError(f"the structure takes {len(document)} bytes, above {MAX_JSON_BYTES}", offset=offset)
    try:
        root = json.loads(document.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the structure is no JSON document: {error}", offset=offset) from None
    builder = _Builder(offset, tensors)
    if root == {"ordered_dict": True}:
        return OrderedDict(tensors)
    value = builder.value(root, 0)
    if len(builder.used) != len(tensors):
        raise builder.fail("the structure does not name every tensor")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


class _Builder:
    def __init__(self, offset: int, tensors: Mapping[str, Any]) -> None:
        self._offset = offset
        self._tensors = tensors
        self.used: set[str] = set()

    def fail(self, cause: str) -> DecodeError:
        return DecodeError(cause, offset=self._offset)

    def value(self, node: Node, depth: int) -> Any:
        if depth > 2 * MAX_DEPTH:
            raise self.fail(f"the structure is nested more than {MAX_DEPTH} deep")
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if isinstance(node, list):
            return [self.value(item, depth + 1) for item in node]
        if len(node) != 1:
            raise self.fail(f"the structure has an object with {len(node)} keys, not 1")
        ((kind, content),) = node.items()
        reader = _READERS.get(kind)
        if reader is None:
            raise self.fail(f"the structure has a value of unknown type {kind[:40]!r}")
        try:
            return reader(self, content, depth)
        except DecodeError:
            raise
        except (
            ValueError,
            TypeError,
            KeyError,
            OverflowError,
            RuntimeError,
            struct.error,
            binascii.Error,
        ) as error:
            raise self.fail(f"the structure has a wrong value of type {kind!r}: {error}") from None

    def sequence(self, content: Any, depth: int) -> list[Any]:
        if not isinstance(content, list):
            raise self.fail("the structure has a collection that is no list")
        return [self.value(item, depth + 1) for item in content]

    def items(self, content: Any, depth: int) -> list[tuple[Any, Any]]:
        pairs = []
        keys = set()
        if not isinstance(content, list):
            raise self.fail("the structure has a mapping that is no list of pairs")
        for pair in content:
            if not isinstance(pair, list) or len(pair) != 2:
                raise self.fail("the structure has a mapping whose items are no pairs")
            key = self.value(pair[0], depth + 1)
            if is_tensor(key) or key in keys:
                raise self.fail("the structure has a mapping with a key twice, or a tensor as key")
            keys.add(key)
            pairs.append((key, self.value(pair[1], depth + 1)))
        return pairs

    def default_dict(self, content: Any, depth: int) -> Any:
        name, pairs = content
        factory = None if name is None else _FACTORIES[_text(name)]
        return defaultdict(factory, self.items(pairs, depth))

    def tensor(self, content: Any, depth: int) -> Any:
        if not isinstance(content, str) or content not in self._tensors:
            raise self.fail(f"the structure names a tensor {str(content)[:80]!r} that the file does not have")
        self.used.add(content)
        return self._tensors[content]

    def floating(self, content: Any) -> float:
        if isinstance(content, float):
            return content
        if not isinstance(content, dict) or list(content) != ["float"]:
            raise self.fail("the structure has a complex number whose part is no float")
        return self.special(content["float"], 0)

    def special(self, content: Any, depth: int) -> float:
        value: float = _DOUBLE.unpack(bytes.fromhex(_text(content)))[0]
        return value

    def complex(self, content: Any, depth: int) -> complex:
        real, imag = content
        return complex(self.floating(real), self.floating(imag))

    def numpy(self, content: Any, depth: int) -> Any:
        name, digits = content
        row = dtypes.BY_NAME[_text(name)]
        raw = bytes.fromhex(_text(digits))
        if len(raw) != row.size:
            raise self.fail(f"the structure has a numpy scalar of type {name} in {len(raw)} bytes")
        return np.frombuffer(bytearray(raw), np.uint8).view(row.numpy())[0]

    def torch(self, kind: str, content: Any) -> Any:
        try:
            import torch
        except ImportError:
            raise self.fail(f"the structure has a torch.{kind}; install torch to read it") from None
        if kind == "dtype":
            value = vars(torch).get(_text(content))  # getattr would import what a file names
            if not isinstance(value, torch.dtype):
                raise self.fail(f"the structure has an unknown torch.dtype {content!r}")
            return value
        if kind == "device":
            return torch.device(_text(content))
        if not all(type(size) is int for size in content):
            raise self.fail("the structure has a torch.Size of things that are no numbers")
        return torch.Size(content)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a string")
    return value


_READERS: dict[str, Callable[[_Builder, Any, int], Any]] = {
    "tensor": _Builder.tensor,
    "int": lambda b, v, d: int(_text(v), 16),
    "float": _Builder.special,
    "complex": _Builder.complex,
    "bytes": lambda b, v, d: base64.b64decode(_text(v), validate=True),
    "tuple": lambda b, v, d: tuple(b.sequence(v, d)),
    "set": lambda b, v, d: set(b.sequence(v, d)),
    "frozenset": lambda b, v, d: frozenset(b.sequence(v, d)),
    "dict": lambda b, v, d: dict(b.items(v, d)),
    "ordered_dict": lambda b, v, d: OrderedDict(b.items(v, d)),
    "counter": lambda b, v, d: Counter(dict(b.items(v, d))),
    "defaultdict": _Builder.default_dict,
    "numpy": _Builder.numpy,
    "torch.Size": lambda b, v, d: b.torch("Size", v),
    "torch.dtype": lambda b, v, d: b.torch("dtype", v),
    "torch.device": lambda b, v, d: b.torch("device", v),
}
