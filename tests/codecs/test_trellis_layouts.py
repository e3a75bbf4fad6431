"""Codec `trellis`: kernels that are not stored in torch's order of axes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from bench.datasets import read_safetensors
from numpy.typing import NDArray

import nncodec
from nncodec.codecs import LowRank, Trellis
from nncodec.codecs.base import Encoded, Part, Setting

# Where axes of (output, input, places ...) go: channels last, places first.
ORDERS = [(0, 2, 1), (2, 1, 0), (0, 2, 3, 1), (2, 3, 1, 0), (0, 2, 3, 4, 1), (2, 3, 4, 1, 0)]


def kernels(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Places of a kernel are alike, and outputs differ in scale."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    for axis in range(2, len(shape)):
        x = np.cumsum(x, axis=axis)
    of = np.exp(0.5 * rng.standard_normal((shape[0], *[1] * (len(shape) - 1))))
    return (0.1 * of * x).astype(np.float32)


def of_order(order: tuple[int, ...], outputs: int = 24, inputs: int = 20) -> NDArray[np.float32]:
    return kernels(outputs, inputs, *{3: (5,), 4: (3, 3), 5: (3, 2, 3)}[len(order)])


def encode(x: NDArray[np.generic], dtype: int = 2, weights: NDArray[np.float32] | None = None) -> Encoded:
    part = Part(dtype, (x.shape,), np.frombuffer(x.tobytes(), np.uint8), ("w",))
    (made,) = Trellis(8).encode([part], [Setting(0.1, weights)], 1)
    return Encoded(made.chunk_elements, made.model, list(made.chunks), made.version)


@pytest.mark.parametrize(
    ("order", "weighted"), [(order, False) for order in ORDERS] + [(order, True) for order in ORDERS[1::2]]
)
def test_payloads_are_those_of_torchs_order(order: tuple[int, ...], weighted: bool) -> None:
    x = of_order(order)
    w = np.random.default_rng(1).uniform(0.5, 2, x.shape).astype(np.float32) if weighted else None
    plain = encode(x, weights=None if w is None else w.ravel())
    moved = encode(x.transpose(order), weights=None if w is None else w.transpose(order).ravel())
    assert (plain.version, moved.version) == (1, 2)
    assert moved.chunks == plain.chunks
    assert len(moved.model) <= len(plain.model) + 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("order", ORDERS)
def test_decoded_tensors_are_in_the_order_that_was_stored(order: tuple[int, ...], dtype: type) -> None:
    x = of_order(order).astype(dtype)
    moved = np.ascontiguousarray(x.transpose(order))
    got = [
        nncodec.decode(nncodec.encode({"w": w, "b": w[0, 0]}, Trellis(8), rel_mse=0.01), framework="np")["w"]
        for w in (x, moved)
    ]
    assert got[1].shape == moved.shape
    error = np.square(got[1].astype(np.float64) - moved.astype(np.float64)).sum()
    assert error == pytest.approx(0.01 * np.square(moved.astype(np.float64)).sum(), rel=0.02)


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (2, 3, 1, 0)])
def test_all_kernels_of_a_network_follow_one_custom(order: tuple[int, ...]) -> None:
    network = {f"conv{i}": kernels(16 + 8 * i, 16, 3, 3, seed=i) for i in range(4)}
    network |= {"dense": np.random.default_rng(2).standard_normal((40, 30)).astype(np.float32)}
    moved = {k: np.ascontiguousarray(v.transpose(order)) if v.ndim == 4 else v for k, v in network.items()}
    sizes = {
        layouts: [len(nncodec.encode(n, Trellis(8, layouts=layouts), rel_mse=0.01)) for n in (network, moved)]
        for layouts in ("auto", "stored")
    }
    assert sizes["auto"][1] < 1.003 * sizes["auto"][0]
    assert sizes["stored"][0] == sizes["auto"][0]
    assert sizes["stored"][1] > 1.05 * sizes["auto"][1]


@pytest.mark.parametrize("order", ORDERS[2:4])
@pytest.mark.parametrize("rel_mse", [0.1, 0.03, 0.01, 0.001])
def test_a_trained_network_takes_the_same_in_either_order(order: tuple[int, ...], rel_mse: float) -> None:
    """What docs/codecs/trellis.md says of ResNet-20."""
    data = Path(os.environ.get("NNCODEC_DATA") or Path(__file__).parents[3] / "shared" / "data")
    file = data / "weights" / "resnet20_cifar10.safetensors"
    if not file.is_file():
        pytest.skip("no data folder: set NNCODEC_DATA")
    network = read_safetensors(file)
    moved = {k: np.ascontiguousarray(v.transpose(order)) if v.ndim == 4 else v for k, v in network.items()}
    torchs, auto, stored = (
        len(nncodec.encode(tensors, Trellis(8, layouts=layouts), rel_mse=rel_mse))
        for tensors, layouts in ((network, "stored"), (moved, "auto"), (moved, "stored"))
    )
    assert auto == pytest.approx(torchs, rel=0.002)
    assert stored > 1.04 * torchs


@pytest.mark.parametrize(
    ("shape", "chunks", "version"),
    [
        ((700, 3, 3, 64), 2, 2),  # channels last: chunks of whole rows
        ((3, 3, 64, 700), 1, 2),  # places first: all at once
        ((3, 3, 160, 800), 5, 1),  # of more than 2^20 elements: as it is stored
        ((3, 3, 120000, 1), 5, 1),
    ],
)
def test_large_tensors(shape: tuple[int, ...], chunks: int, version: int, tmp_path: Path) -> None:
    order = (0, 3, 1, 2) if shape[1] == shape[2] else (3, 2, 0, 1)
    coded = kernels(*(shape[i] for i in order))
    x = np.ascontiguousarray(coded.transpose(np.argsort(order)))
    made = encode(x)
    assert (len(made.chunks), made.version) == (chunks, version)
    path = tmp_path / "x.nncz"
    nncodec.save_file({"w": x}, path, Trellis(8), step=0.1)
    one, two = (nncodec.load_file(path, framework="np", threads=n)["w"] for n in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - x).max() < 1
    with nncodec.open(path, framework="np") as file:
        np.testing.assert_array_equal(file.get_slice("w")[1:3], one[1:3])


@pytest.mark.parametrize(
    "shape", [(400, 1, 5, 5), (200, 2, 7, 7), (96, 3, 11, 11), (500, 1, 3, 3, 3), (800, 1, 9)]
)
@pytest.mark.parametrize("rel_mse", [0.1, 0.01])
def test_torchs_order_is_left_alone_where_inputs_are_few(shape: tuple[int, ...], rel_mse: float) -> None:
    auto, stored = (
        nncodec.encode({"w": kernels(*shape)}, Trellis(8, layouts=layouts), rel_mse=rel_mse)
        for layouts in ("auto", "stored")
    )
    assert auto == stored


@pytest.mark.parametrize(("order", "most"), [((0, 2, 3, 1), 1.005), ((2, 3, 1, 0), 0.8)])
def test_steps_of_rows_and_columns_count(order: tuple[int, ...], most: float) -> None:
    x = np.ascontiguousarray(of_order(order).transpose(order))
    importance = {"w": np.exp(np.random.default_rng(3).standard_normal(x.shape)).astype(np.float32)}
    auto, stored = (
        len(nncodec.encode({"w": x}, Trellis(8, layouts=layouts), rel_mse=0.01, importance=importance))
        for layouts in ("auto", "stored")
    )
    assert auto < most * stored


def test_importance_that_is_the_same_throughout_a_tensor_asks_for_no_steps() -> None:
    rng = np.random.default_rng(4)
    tensors = {name: rng.standard_normal((3, 3, 40, 48)).astype(np.float32) for name in "ab"}
    importance = {name: np.full((3, 3, 40, 48), w, np.float32) for name, w in (("a", 1), ("b", 4))}
    auto, stored = (
        nncodec.encode(tensors, Trellis(8, layouts=layouts), rel_mse=0.01, importance=importance)
        for layouts in ("auto", "stored")
    )
    assert auto == stored


@pytest.mark.parametrize("order", ORDERS[2:4])
@pytest.mark.parametrize("shape", [(64, 1, 3, 3), (64, 6, 5, 1), (1, 200, 3, 3)])
def test_kernels_of_odd_shapes(order: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x = np.ascontiguousarray(kernels(*shape).transpose(order))
    blob = nncodec.encode({"w": x}, Trellis(8), rel_mse=0.01)
    got = nncodec.decode(blob, framework="np")["w"]
    assert np.square(got - x).sum() == pytest.approx(0.01 * np.square(x).sum(), rel=0.02)


def test_description(tmp_path: Path) -> None:
    x = of_order((0, 2, 3, 1))
    for name, w in (("torch", x), ("last", np.ascontiguousarray(x.transpose(0, 2, 3, 1)))):
        nncodec.save_file({"w": w}, tmp_path / name, Trellis(8), rel_mse=0.01)
        with nncodec.open(tmp_path / name) as file:
            assert file.info("w").options.get("layouts", False) == (name == "last")


def test_a_codec_within_another_has_no_layouts() -> None:
    depthwise = np.ascontiguousarray(kernels(64, 1, 3, 3).transpose(1, 2, 3, 0))
    assert encode(depthwise).version == 2
    codec = LowRank(rank=2, inner=Trellis(8))
    got = nncodec.decode(nncodec.encode({"w": depthwise}, codec, rel_mse=0.01), framework="np")["w"]
    assert np.square(got - depthwise).sum() == pytest.approx(0.01 * np.square(depthwise).sum(), rel=0.02)


def test_without_layouts_the_payload_is_of_version_1() -> None:
    x = np.ascontiguousarray(of_order((0, 2, 3, 1)).transpose(0, 2, 3, 1))
    part = Part(2, (x.shape,), np.frombuffer(x.tobytes(), np.uint8), ("w",))
    (made,) = Trellis(8, layouts="stored").encode([part], [Setting(0.1)], 1)
    assert made.version == 1
