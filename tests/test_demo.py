"""``nncodec demo``: its network, its forward pass, its table."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import nncodec
from nncodec import demo
from nncodec.demo import report as report_module
from nncodec.demo.network import accuracy, logits
from nncodec.demo.report import _shipped


@pytest.fixture(scope="module")
def report() -> demo.Report:
    return demo.run(threads=2)


def test_forward_pass_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    weights, images = _shipped("digits.nncz"), _shipped("test_slice.nncz")["images"][:50]
    w = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    x = torch.from_numpy(images[:, None].astype(np.float32) / 16)
    x = functional.relu(functional.conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=1))
    x = functional.max_pool2d(
        functional.relu(functional.conv2d(x, w["conv2.weight"], w["conv2.bias"], padding=1)), 2
    )
    x = functional.relu(functional.linear(x.flatten(1), w["fc1.weight"], w["fc1.bias"]))
    expected = functional.linear(x, w["fc2.weight"], w["fc2.bias"]).numpy()
    np.testing.assert_allclose(logits(weights, images), expected, rtol=1e-4, atol=1e-4)


def test_slice_is_held_out_digits() -> None:
    """The shipped slice is what the training script holds out, byte for byte, where scikit-learn is there to ask."""
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, digits = datasets.load_digits(return_X_y=True)
    held_out = np.arange(len(pixels)) % 10 < 3
    test = _shipped("test_slice.nncz")
    assert np.array_equal(test["images"].reshape(-1, 64), pixels[held_out])
    assert np.array_equal(test["labels"], digits[held_out])


def test_rows(report: demo.Report) -> None:
    original, lossless, *lossy = report.rows
    assert original.accuracy >= 0.98
    assert report.bit_exact
    assert (lossless.rel_mse, lossless.accuracy) == (0, original.accuracy)
    assert lossless.bytes < original.bytes
    assert len(lossy) == 3
    for row, (_, _, budget) in zip(lossy, report_module.RUNS[1:], strict=True):
        assert row.ratio == pytest.approx(budget["ratio"], rel=0.03)
        assert row.bytes == pytest.approx(row.bits_per_weight * report.weights / 8)
        assert 0 < row.rel_mse < 0.3
        assert original.accuracy - row.accuracy < 0.03
    assert lossy[0].rel_mse < lossy[2].rel_mse < lossy[1].rel_mse


def test_rel_mse_is_that_of_the_decoded_weights(report: demo.Report) -> None:
    weights = _shipped("digits.nncz")
    decoded = nncodec.decode(nncodec.encode(weights, codec="trellis", ratio=24), framework="np")
    error = sum(float(((weights[k].astype(float) - decoded[k]) ** 2).sum()) for k in weights)
    energy = sum(float((weights[k].astype(float) ** 2).sum()) for k in weights)
    assert report.rows[-1].rel_mse == pytest.approx(error / energy)


def test_text_and_json(report: demo.Report) -> None:
    text = str(report)
    assert "bit for bit" in text
    assert all(row.name in text and f"{row.bytes:,}" in text for row in report.rows)
    assert json.loads(json.dumps(report.as_dict()))["rows"][1]["bytes"] == report.rows[1].bytes


def test_a_codec_that_loses_bits_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, test = _shipped("digits.nncz"), _shipped("test_slice.nncz")
    decode = nncodec.decode

    def lossy_decode(blob: bytes, **options: Any) -> dict[str, np.ndarray]:
        decoded = decode(blob, **options)
        decoded["fc2.bias"][3] = np.nextafter(decoded["fc2.bias"][3], np.float32(1))
        return decoded

    monkeypatch.setattr(
        report_module, "_shipped", {"digits.nncz": weights, "test_slice.nncz": test}.__getitem__
    )
    monkeypatch.setattr(nncodec, "decode", lossy_decode)
    assert not demo.run().bit_exact


def test_accuracy_of_noise_is_chance() -> None:
    weights = {name: np.zeros_like(value) for name, value in _shipped("digits.nncz").items()}
    test = _shipped("test_slice.nncz")
    assert accuracy(weights, test["images"], test["labels"]) < 0.2
