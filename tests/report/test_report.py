"""The report: its figures are those of the file, its page carries them safely, the command writes both."""

from __future__ import annotations

import html.parser
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nncodec
from nncodec.report import Report, gather, images, page


def network() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(3)
    shared = rng.normal(size=(40, 30)).astype(np.float32)
    return {
        "stem.conv.weight": rng.normal(size=(16, 8, 3, 3)).astype(np.float32),
        "stem.conv.bias": rng.normal(size=16).astype(np.float32),
        "block.0.weight": shared,
        "block.1.weight": shared,
        "block.steps": np.arange(7),
        "block.half": rng.normal(size=(20, 20)).astype(np.float16),
        "block.empty": np.zeros((0, 3), np.float32),
    }


@contextmanager
def opened(blob: bytes, framework: str = "np") -> Iterator[nncodec.reader.File]:
    with tempfile.NamedTemporaryFile(suffix=".nncz") as file:
        file.write(blob)
        file.flush()
        with nncodec.open(file.name, framework=framework) as found:
            yield found


def report_of(
    original: dict[str, Any],
    codec: Any = "uniform",
    against: bool = True,
    curve: bool = True,
    **budget: float,
) -> Report:
    blob = nncodec.encode(original, codec, **budget)
    with opened(blob) as file:
        return gather(
            file, "a.nncz", original if against else None, "a.safetensors" if against else "", curve=curve
        )


def document_of(text: str) -> dict[str, Any]:
    class Scripts(html.parser.HTMLParser):
        inside, found = False, ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.inside = ("id", "data") in attrs

        def handle_endtag(self, tag: str) -> None:
            self.inside = False

        def handle_data(self, data: str) -> None:
            if self.inside:
                self.found += data

    parser = Scripts()
    parser.feed(text)
    found = json.loads(parser.found)
    assert isinstance(found, dict)
    return found


def test_figures_are_those_of_the_file() -> None:
    original = network()
    blob = nncodec.encode(original, "uniform", rel_mse=1e-2)
    decoded = nncodec.decode(blob)
    report = report_of(original, rel_mse=1e-2)
    assert report.file_bytes == len(blob)
    error = power = 0.0
    for tensor in report.tensors:
        before, after = original[tensor.info.name], decoded[tensor.info.name]
        if tensor.info.alias_of or before.dtype.kind != "f" or before.size == 0:
            assert tensor.rel_mse is None
            continue
        squared = float(((before.astype(np.float64) - after) ** 2).sum())
        assert tensor.rel_mse == pytest.approx(
            squared / float((before.astype(np.float64) ** 2).sum()), rel=1e-6
        )
        assert tensor.largest_error == pytest.approx(np.abs(before.astype(np.float64) - after).max())
        assert sum(tensor.decoded) == sum(tensor.original) == before.size
        if before.ndim >= 2:
            error, power = error + squared, power + float((before.astype(np.float64) ** 2).sum())
    assert report.rel_mse == pytest.approx(error / power)
    assert report.rel_mse == pytest.approx(1e-2, rel=0.01)
    assert [t.info.alias_of for t in report.tensors if t.info.alias_of] == ["block.0.weight"]


def test_curve_passes_through_the_file() -> None:
    report = report_of(network(), rel_mse=1e-2)
    uniform = next(curve for curve in report.curves if curve.codec == "uniform")
    bits, errors = zip(*uniform.points, strict=True)
    assert list(errors) == sorted(errors, reverse=True)
    assert list(bits) == sorted(bits)
    here = next(b for b, e in uniform.points if e == pytest.approx(report.rel_mse, rel=0.01))
    assert here == pytest.approx(8 * report.file_bytes / report.weights, rel=0.05)


def test_lossless_file_and_no_original() -> None:
    report = report_of(network(), "lossless")
    assert report.rel_mse == 0
    assert {t.rel_mse for t in report.tensors} <= {0.0, None}
    assert report.curves
    assert report_of(network(), "lossless", against=False).rel_mse is None
    document = document_of(page(report_of(network(), "lossless", against=False)))
    assert document["curves"] == []
    assert all("rel_mse" not in tensor for tensor in document["tensors"])


def test_values_that_are_not_finite() -> None:
    value = np.array([[1.0, np.nan], [np.inf, -np.inf]], np.float32)
    report = report_of({"w": value}, "lossless")
    assert report.tensors[0].rel_mse == 0
    assert sum(report.tensors[0].decoded) == 1
    document_of(page(report))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values",
    [
        [1.7e308, -1.7e308],
        [0.0, 5e-324],
        [1e200, 2e200],
        [1e30, 1e30],
        [0.0, 0.0],
        [np.nan, np.inf],
        [-1e-310, 1.0],
    ],
)
def test_values_at_the_ends_of_double_precision(values: list[float]) -> None:
    report = report_of({"w": np.array([values])}, "lossless", curve=False)
    tensor = report.tensors[0]
    assert tensor.rel_mse == 0
    assert report.rel_mse in (0, None)  # None: nothing of a norm to compare with
    assert sum(tensor.decoded) in (0, np.isfinite(values).sum())
    assert tensor.decoded == tensor.original
    document_of(page(report))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_original_that_is_not_finite_where_the_file_is(value: float, tmp_path: Path) -> None:
    original = {"w": np.ones((2, 3), np.float32), "v": np.ones((2, 2), np.float32)}
    blob = nncodec.encode(original)
    original["w"] = original["w"].copy()
    original["w"][0, 0] = value
    with opened(blob) as file:
        report = gather(file, "a", original, "b", curve=False)
    assert [(t.rel_mse, t.largest_error) for t in report.tensors] == [(np.inf, np.inf), (0, 0)]
    assert report.rel_mse == np.inf
    assert document_of(page(report))["tensors"][0]["rel_mse"] is None
    pytest.importorskip("matplotlib")
    assert [path.stem for path in images(report, tmp_path)] == ["bytes", "histograms"]


def test_original_of_other_types() -> None:
    """Integers, records and numbers are there, but there is no error to tell."""
    blob = nncodec.encode({"a": np.ones(3), "b": np.ones(3), "c": np.ones(())})
    other = {"a": np.ones(3, int), "b": np.zeros(3, [("x", "f4"), ("y", "f4")]), "c": 1.0}
    with opened(blob) as file:
        report = gather(file, "a", other, "b")
    assert [t.rel_mse for t in report.tensors] == [None] * 3
    assert report.rel_mse is None
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with opened(nncodec.encode({"i": np.ones((2, 2), np.int8)})) as file:
        found = gather(file, "a", {"i": np.ones((2, 2), ml_dtypes.int4)}, "b")
    assert found.tensors[0].rel_mse is None


def test_curve_is_of_what_the_file_holds() -> None:
    """A checkpoint may hold much else: an optimiser's state is not in the file, nor in its curve."""
    blob = nncodec.encode(network(), "uniform", rel_mse=1e-2)
    more = network() | {
        "optimiser.state": np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    }
    with opened(blob) as file:
        found = gather(file, "a", more, "b")
        assert found.curves == gather(file, "a", network(), "b").curves


def test_torch_types() -> None:
    torch = pytest.importorskip("torch")
    original = {
        "bf16": torch.randn(32, 32, dtype=torch.bfloat16),
        "fp8": torch.randn(8, 8).to(torch.float8_e4m3fn),
        "complex": torch.randn(8, 8, dtype=torch.complex64),
        "flags": torch.tensor([True, False]),
    }
    blob = nncodec.encode(original)
    for framework in ("pt", "np"):
        with opened(blob, framework) as file:
            report = gather(file, "a", original, "b", curve=False)
        errors = {t.info.name: t.rel_mse for t in report.tensors}
        assert errors == {"bf16": 0.0, "fp8": 0.0, "complex": 0.0, "flags": None}


def test_page_loads_nothing_and_nothing_breaks_out() -> None:
    name = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    report = report_of(
        {name: np.ones((4, 4), np.float32), "\u2028@DATA@@STYLE@": np.ones(3, np.float32)}, "lossless"
    )
    text = page(report)
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert "https://" not in text
    assert text.count("http://") == text.count('"http://www.w3.org/2000/svg"') == 1  # a name, not a place
    assert document_of(text)["tensors"][0]["name"] == name
    assert document_of(text)["tensors"][1]["name"] == "\u2028@DATA@@STYLE@"


def test_many_tensors_stay_a_small_page() -> None:
    original = {f"layer.{i}.weight": np.full((2, 2), i, np.float32) for i in range(3000)}
    text = page(report_of(original, "lossless", curve=False))
    assert len(text.encode()) < 2_000_000
    assert len(document_of(text)["tensors"]) == 3000


def test_wrong_original() -> None:
    blob = nncodec.encode(network())
    with opened(blob) as file:
        with pytest.raises(ValueError, match="none of the tensors"):
            gather(file, "a", {"other": np.ones(3)}, "b.npz")
        with pytest.raises(ValueError, match=r"'block\.half' has shape"):
            gather(file, "a", {"block.half": np.ones((20, 21), np.float16)}, "b.npz")


def test_images(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    written = images(report_of(network(), rel_mse=1e-2), tmp_path / "new", "svg")
    assert [path.name for path in written] == ["bytes.svg", "histograms.svg", "errors.svg", "curve.svg"]
    assert all(path.read_text().lstrip().startswith("<?xml") for path in written)
    fewer = images(report_of(network(), "lossless", against=False), tmp_path, "svg")
    assert [path.name for path in fewer] == ["bytes.svg", "histograms.svg"]


@pytest.mark.filterwarnings("error")
def test_images_of_hostile_names(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = [
        "$",
        "a$b$c_{",
        r"x$\frac{",
        "l\n" * 30,
        "n" * 5000,
        "n" * 4999,
        "\0\a\u202e\ud7ff",
        "__proto__",
        "",
        "größe",
    ]
    original = {name: np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32) for name in names}
    written = images(report_of(original, rel_mse=1e-2, curve=False), tmp_path, "svg")
    assert [path.name for path in written] == ["bytes.svg", "histograms.svg", "errors.svg"]
    assert "größe" in (tmp_path / "bytes.svg").read_text()


def test_empty_file() -> None:
    report = report_of({}, "lossless", against=False)
    assert report.weights == 0
    assert document_of(page(report))["tensors"] == []
