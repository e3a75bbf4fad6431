"""Networks of the data folder, from a few hundred images and without a gradient step. Skipped without the data."""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
datasets = pytest.importorskip("bench.datasets", reason="bench/ is not part of the wheel")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import nncodec  # noqa: E402
from nncodec.train import MLPrune, PostTraining  # noqa: E402

TEST_IMAGES = 2000


@pytest.fixture(scope="module")
def digits() -> Any:
    """Network, loader sorted by class, test images and labels."""
    from bench.tasks import task
    from bench.tasks.digits import read_idx

    folder = datasets.data_dir(None)
    if folder is None:
        pytest.skip("no data folder: set NNCODEC_DATA")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    images = read_idx(folder / "mnist" / "train-images-idx3-ubyte.gz")[:5000]
    labels = read_idx(folder / "mnist" / "train-labels-idx1-ubyte.gz").long()[:5000]
    order = labels.argsort(stable=True)
    loader = list(zip(images[order].split(100), labels[order].split(100), strict=True))
    test = [read_idx(folder / "mnist" / f"t10k-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")]
    weights = datasets.read_safetensors(folder / "weights" / "lenet5_mnist.safetensors")
    yield task("lenet5_mnist").build(weights), loader, test[0][:TEST_IMAGES], test[1][:TEST_IMAGES].long()
    torch.set_num_threads(before)


@torch.inference_mode()
def top1(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    pairs = zip(images.split(500), labels.split(500), strict=True)
    return 100 * sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs) / len(labels)


def test_98_per_cent_of_lenet5_go_where_magnitude_fails(digits: Any) -> None:
    model, loader, *test = digits
    original = top1(model, *test)
    plain = deepcopy(model)
    weights = [m.weight for m in plain.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    every = torch.cat([w.detach().abs().ravel() for w in weights]).sort().values
    threshold = every[round(0.98 * len(every))]
    with torch.no_grad():
        for w in weights:
            w[w.abs() < threshold] = 0
    result = MLPrune(sparsity=0.98, steps=5, examples=500, iterations=30).fit(model, loader, F.cross_entropy)
    ours, theirs = top1(result.model, *test), top1(plain, *test)
    assert ours > original - 2.5
    assert ours > theirs + 5


def test_lenet5_sixty_times_smaller_without_training(digits: Any) -> None:
    model, loader, *test = digits
    result = PostTraining(target=60.0, prune_steps=4, steps=4, examples=500, iterations=30).fit(
        model, loader, F.cross_entropy
    )
    blob = nncodec.encode(result.model.state_dict(), result.codec)
    assert 60 * len(blob) <= 1.01 * sum(4 * p.numel() for p in model.parameters())
    assert top1(result.model, *test) > top1(model, *test) - 2
