"""Adapters of other codecs give back what went in."""

from __future__ import annotations

import numpy as np
import pytest
from bench.contenders import NNC, Contender, OpenZL, Unavailable, ZipNN, Zstandard


def tensors() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(3)
    found: dict[str, np.ndarray] = {
        "a.weight": draw.normal(size=(64, 32)).astype(np.float32),
        "half": draw.normal(size=300).astype(np.float16),
        "steps": np.arange(7),
        "empty": np.zeros((0, 3), np.float32),
    }
    ml_dtypes = pytest.importorskip("ml_dtypes")
    return found | {"brain": found["a.weight"].astype(ml_dtypes.bfloat16)}


@pytest.mark.parametrize("kind", [Zstandard, ZipNN, OpenZL])
def test_lossless(kind: type[Contender]) -> None:
    try:
        contender = kind()
    except Unavailable as reason:
        pytest.skip(str(reason))
    given = tensors()
    got = contender.decode(contender.encode(given))
    assert list(got) == list(given)
    for name, value in given.items():
        assert got[name].dtype == value.dtype
        assert got[name].shape == value.shape
        assert got[name].tobytes() == value.tobytes()
    assert contender.seconds > 0


def test_nnc_error_falls_with_its_parameter() -> None:
    given = {"a.weight": tensors()["a.weight"]}
    try:
        peer = NNC()
    except Unavailable as reason:
        pytest.skip(str(reason))
    errors, sizes = [], []
    with peer:
        for setting in (-4, -12):
            data = peer.encode(given, setting)
            sizes.append(len(data))
            errors.append(float(np.square(peer.decode(data)["a.weight"] - given["a.weight"]).mean()))
        with pytest.raises(RuntimeError, match="Error"):
            peer.decode(b"\xff" * 40)
    assert 0 < errors[1] < errors[0] / 4 < 0.25
    assert sizes[0] < sizes[1] < given["a.weight"].nbytes
