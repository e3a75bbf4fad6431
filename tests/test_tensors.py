"""Every kind of tensor goes in and comes out as it was; what cannot be held is refused by name."""

from __future__ import annotations

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import nncodec
from nncodec.dtypes import BY_CODE, METADATA_KEY


def same(a, b) -> bool:
    """Equal in type, shape, element type and every bit."""
    if type(a) is not type(b) or a.dtype != b.dtype or tuple(a.shape) != tuple(b.shape):
        return False
    return raw(a) == raw(b)


def raw(tensor) -> bytes:
    if isinstance(tensor, torch.Tensor):
        if tensor.numel() == 0:
            return b""
        flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
        return flat.view(torch.uint8).numpy().tobytes()
    return np.ascontiguousarray(tensor).tobytes()


def torch_tensor(row, shape) -> torch.Tensor:
    """Random bits of a type: NaN payloads, infinities, denormals and all."""
    size = int(np.prod(shape, dtype=np.int64)) * row.size
    bits = np.random.default_rng(row.code).integers(0, 256, size, dtype=np.uint8)
    if row.name == "bool":
        bits &= 1
    memory = torch.from_numpy(bits) if size else torch.empty(0, dtype=torch.uint8)
    return memory.view(row.torch()).reshape(shape)


def round_trip(tensor, codec="stored", **options):
    return nncodec.decode(nncodec.encode({"t": tensor}, codec), **options)["t"]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (5, 7), (2, 3, 4, 1)], ids=str)
@pytest.mark.parametrize("row", BY_CODE.values(), ids=lambda row: row.name)
def test_every_torch_type_and_shape(row, shape):
    tensor = torch_tensor(row, shape)
    assert same(round_trip(tensor), tensor)


@pytest.mark.parametrize("row", BY_CODE.values(), ids=lambda row: row.name)
def test_every_type_as_numpy_and_back_to_torch(row):
    tensor = torch_tensor(row, (5, 7))
    array = round_trip(tensor, framework="np")
    assert isinstance(array, np.ndarray)
    assert array.dtype == row.numpy()
    assert same(round_trip(array), array)
    assert same(round_trip(array, framework="pt"), tensor)


def test_integer_view_without_ml_dtypes_names_its_type_and_goes_back():
    script = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "import numpy as np, nncodec\n"
        "blob = sys.stdin.buffer.read()\n"
        "a = nncodec.decode(blob, framework='np')['t']\n"
        f"assert a.dtype == np.uint16 and a.dtype.metadata == {{{METADATA_KEY!r}: 'bfloat16'}}, a.dtype\n"
        "sys.stdout.buffer.write(nncodec.encode({'t': a}, 'stored'))\n"
    )
    tensor = np.arange(-4, 5).astype(ml_dtypes.bfloat16)
    blob = nncodec.encode({"t": tensor}, "stored")
    again = subprocess.run([sys.executable, "-c", script], input=blob, capture_output=True, check=True).stdout
    assert again == blob


STRIDED = {
    "transposed": lambda t: t.T,
    "step": lambda t: t[::2, 1::3],
    "expanded": lambda t: (
        t[:, :1].expand(-1, 9) if isinstance(t, torch.Tensor) else np.broadcast_to(t[:, :1], (8, 9))
    ),
    "row": lambda t: t[3],
    "element": lambda t: t[2, 2],
}


@pytest.mark.parametrize("view", STRIDED.values(), ids=STRIDED)
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_strided_views(make, view):
    tensor = view(make(np.arange(72, dtype=np.float32).reshape(8, 9)))
    if isinstance(tensor, np.generic):
        tensor = np.asarray(tensor)
    back = round_trip(tensor)
    assert same(back, tensor)
    assert back.flags.c_contiguous if isinstance(back, np.ndarray) else back.is_contiguous()


def test_negative_strides_and_foreign_byte_order():
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert same(round_trip(base[::-1, ::-2]), np.ascontiguousarray(base[::-1, ::-2]))
    big = base.astype(">f4")
    back = round_trip(big)
    assert back.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(back, base)
    out = nncodec.decode(nncodec.encode({"a": big, "b": big[1:]}, "stored"))
    np.testing.assert_array_equal(out["b"], base[1:])


def test_conjugate_and_negative_views():
    z = torch.randn(4, 3, dtype=torch.complex64)
    assert torch.equal(round_trip(z.conj()), z.conj().resolve_conj())
    assert torch.equal(round_trip(z.conj().imag), z.conj().imag.resolve_neg())
    out = nncodec.decode(nncodec.encode({"z": z, "c": z.conj()}, "stored"))
    assert torch.equal(out["z"], z)
    assert torch.equal(out["c"], z.conj().resolve_conj())


def test_parameters_subclasses_and_gradients():
    class Named(torch.Tensor):
        pass

    parameter = torch.nn.Parameter(torch.randn(3, 3))
    product = parameter * 2
    for tensor in (parameter, product, torch.randn(2).as_subclass(Named)):
        back = round_trip(tensor)
        assert type(back) is torch.Tensor
        assert not back.requires_grad
        assert raw(back) == raw(tensor)


def test_numpy_subclasses_come_back_as_arrays():
    class Sub(np.ndarray):
        pass

    back = round_trip(np.arange(3.0).view(Sub))
    assert type(back) is np.ndarray


def test_inputs_are_read_where_they_lie():
    from nncodec.tensors import leaf

    array = np.arange(100, dtype=np.float32)
    assert np.shares_memory(leaf("a", array).data(), array)
    tensor = torch.arange(100, dtype=torch.bfloat16)
    assert leaf("t", tensor).data().__array_interface__["data"][0] == tensor.data_ptr()


class Wrapper(torch.Tensor):
    """Says that it is a tensor, and holds another one."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return cls(torch.ones(2))


def fake_tensor():
    with FakeTensorMode():
        return torch.zeros(3, 3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.eye(3).to_sparse_csr(), "sparse"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantised"),
        (lambda: torch.empty(3, device="meta"), "meta"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
        (lambda: torch.nn.LazyLinear(3).weight, "not initialised"),
        (lambda: torch.nn.LazyLinear(3).state_dict()["bias"], "not initialised"),
        (lambda: torch.nn.LazyBatchNorm1d().running_mean, "not initialised"),
        (fake_tensor, "FakeTensor: it has no values"),
        (lambda: Wrapper(torch.ones(2)), "Wrapper without memory of its own"),
        (lambda: torch.nn.Parameter(fake_tensor()), "FakeTensor: it has no values"),
        (lambda: np.array([object()]), "object"),
        (lambda: np.zeros(2, dtype=[("a", "i4")]), "'a'"),
        (lambda: np.zeros(2, dtype="M8[s]"), "datetime64"),
        (lambda: np.zeros(2, dtype=np.longdouble), "float128|longdouble"),
        (lambda: np.array(["text"]), "<U4"),
        (lambda: np.ma.masked_array([1, 2], [0, 1]), "masked"),
    ],
)
def test_what_cannot_be_held_is_named(make, why):
    with pytest.raises(TypeError, match=rf"(?s)layer\.weight.*({why})"):
        nncodec.encode({"layer.weight": make()}, "stored")


def test_an_object_that_is_no_checkpoint():
    for value in (3, "text", None, object(), {1.5}):
        with pytest.raises(TypeError, match="tensors is a"):
            nncodec.encode(value, "stored")


TIES = {
    "same": lambda t: t,
    "rows": lambda t: t[2:5],
    "columns": lambda t: t[:, 1::2],
    "transposed": lambda t: t.T,
    "flat": lambda t: t.reshape(-1),
    "element": lambda t: t[3, 4:5],
}


@pytest.mark.parametrize("tie", TIES.values(), ids=TIES)
@pytest.mark.parametrize("order", ["owner first", "view first"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_tied_tensors_are_stored_once_and_tied_again(kind, order, tie):
    base = np.random.default_rng(1).normal(size=(40, 60)).astype(np.float32)
    owner = base if kind == "numpy" else torch.from_numpy(base)
    pair = {"owner": owner, "view": tie(owner)}
    if order == "view first":
        pair = dict(reversed(pair.items()))
    blob = nncodec.encode(pair, "stored")
    assert len(blob) < base.nbytes + 400
    out = nncodec.decode(blob)
    assert list(out) == list(pair)
    for name, tensor in pair.items():
        assert same(out[name], tensor)
    out["owner"][...] = 7.0
    assert (out["view"] == 7.0).all()
    crossed = nncodec.decode(blob, framework="pt" if kind == "numpy" else "np")
    crossed["owner"][...] = 5.0
    assert (crossed["view"] == 5.0).all()


def test_ties_across_frameworks():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    out = nncodec.decode(
        nncodec.encode({"n": array, "p": torch.from_numpy(array), "v": torch.from_numpy(array)[1]}, "stored")
    )
    assert isinstance(out["n"], np.ndarray)
    assert isinstance(out["p"], torch.Tensor)
    out["n"][1, 2] = -1
    assert out["p"][1, 2] == -1
    assert out["v"][2] == -1


STRIDED = {
    "columns": lambda t: t[:, 1::2],
    "transposed": lambda t: t.T,
    "expanded": lambda t: (
        t[:1].expand(3, 6) if isinstance(t, torch.Tensor) else np.broadcast_to(t[:1], (3, 6))
    ),
    "swapped": lambda t: t.reshape(1, 2, 2, 6).swapaxes(1, 3),
    "diagonal": lambda t: t.diagonal(),
    "overlapping": lambda t: (
        t.reshape(-1).unfold(0, 4, 2)
        if isinstance(t, torch.Tensor)
        else np.lib.stride_tricks.sliding_window_view(t.reshape(-1), 4)
    ),
}


def assert_tied(checkpoint):
    """Of two equal tensors, one is stored, and both come back in the same memory in either framework."""
    (first, tensor), (second, _) = checkpoint.items()
    blob = nncodec.encode(checkpoint, "stored")
    one = nncodec.encode({first: tensor}, "stored")
    assert len(blob) < len(one) + 40
    for framework in (None, "np", "pt"):
        out = nncodec.decode(blob, framework=framework)
        assert list(out) == [first, second]
        assert raw(out[first]) == raw(out[second]) == raw(tensor)
        out[first].reshape(-1)[:] = 7
        assert (out[second] == 7).all()


@pytest.mark.parametrize("view", STRIDED.values(), ids=STRIDED)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_equal_strided_views_are_stored_once_and_tied_again(kind, view):
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    if kind == "torch":
        base = torch.from_numpy(base)
    assert_tied({"a": view(base), "b": view(base)})


def test_equal_views_with_unusual_strides_are_tied():
    backwards = np.arange(100, dtype=np.int32)
    assert_tied({"a": backwards[::-1], "b": backwards[::-1]})
    fortran = np.asfortranarray(np.arange(600, dtype=np.float32).reshape(20, 30))
    assert_tied({"a": fortran, "b": fortran})
    assert_tied({"a": fortran, "b": torch.from_numpy(fortran)})
    record = np.zeros(50, dtype=[("x", "f4"), ("y", "u1")])  # no multiple of the element size
    assert_tied({"a": record["x"], "b": record["x"]})
    kernel = torch.nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last).weight
    assert_tied({"a": kernel, "b": kernel})
    assert_tied({"a": kernel[:, :1], "b": kernel.detach()[:, :1]})


def test_equal_strided_views_of_an_owner_are_views_of_it():
    owner = torch.arange(600, dtype=torch.float32).reshape(20, 30)
    out = nncodec.decode(nncodec.encode({"a": owner.t(), "b": owner.t(), "owner": owner}, "stored"))
    assert same(out["a"], owner.t())
    out["owner"][...] = 7.0
    assert (out["a"] == 7.0).all()
    assert (out["b"] == 7.0).all()


def test_views_that_differ_in_strides_alone_are_stored_each():
    memory = np.arange(16, dtype=np.float32)
    odd = np.lib.stride_tricks.as_strided(memory, (3, 3), (16, 8))
    out = nncodec.decode(nncodec.encode({"a": odd, "b": odd.T}, "stored"))
    np.testing.assert_array_equal(out["a"], odd)
    np.testing.assert_array_equal(out["b"], odd.T)


def test_overlapping_views_without_an_owner_are_stored_each():
    memory = np.arange(100, dtype=np.float32)
    out = nncodec.decode(nncodec.encode({"a": memory[:60], "b": memory[40:]}, "stored"))
    np.testing.assert_array_equal(out["a"], memory[:60])
    np.testing.assert_array_equal(out["b"], memory[40:])
    assert not np.shares_memory(out["a"], out["b"])


def test_views_of_another_type_are_stored_each():
    memory = np.arange(10, dtype=np.float32)
    out = nncodec.decode(
        nncodec.encode({"f": memory, "i": memory.view(np.int32), "odd": memory.view(np.uint8)[1:5]}, "stored")
    )
    assert same(out["i"], memory.view(np.int32))
    assert same(out["odd"], memory.view(np.uint8)[1:5])


def test_a_named_tie_alone():
    weight = torch.randn(30, 20)
    blob = nncodec.encode({"embed": weight, "head": weight, "part": weight[3:, 2]}, "stored")
    assert same(nncodec.decode(blob, names=["part"])["part"], weight[3:, 2])
    assert same(nncodec.decode(blob, names=["head"])["head"], weight)
