"""ENC, distillation and compact filters on real networks. Skipped without the data folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
pytest.importorskip("bench", reason="no source tree")

from bench.datasets import data_dir, read_safetensors  # noqa: E402
from bench.train_codebooks import Batches, Data, mnist, top1  # noqa: E402

from nncodec.train import ENC, Compact, distill  # noqa: E402
from nncodec.train.structures import BlockCirculant  # noqa: E402

FOLDER = data_dir()
needs_data = pytest.mark.skipif(FOLDER is None, reason="no data folder: set NNCODEC_DATA")


@pytest.fixture(scope="module")
def digits() -> Data:
    assert FOLDER is not None
    return mnist(FOLDER, "cpu")


@pytest.fixture(scope="module")
def lenet5() -> nn.Module:
    from bench.tasks import task

    assert FOLDER is not None
    tensors = read_safetensors(FOLDER / "weights" / "lenet5_mnist.safetensors")
    return task("lenet5_mnist").build(tensors)


@needs_data
def test_half_of_resnet20_without_a_gradient_step() -> None:
    from bench.tasks.cifar import TASKS, train_images

    pytest.importorskip("PIL")
    assert FOLDER is not None
    task = TASKS["resnet20_cifar10"]
    model = task.build(read_safetensors(FOLDER / "weights" / "resnet20_cifar10.safetensors"))
    images, labels = train_images(FOLDER, 300)
    batches = list(zip(images.split(100), labels.split(100), strict=True))

    def accuracy(network: nn.Module) -> float:
        return task.evaluate(network.eval(), FOLDER, 1000)["top1"]

    paper: dict[str, Any] = {"form": "paper", "metric": "pca", "factors": "svd", "examples": 300}
    before = accuracy(model)
    result = ENC(0.5, examples=300).fit(model, batches, F.cross_entropy)
    ours = accuracy(result.model)
    print(f"{before:.2f} -> exact {ours:.2f}", flush=True)
    uniform = accuracy(ENC(0.5, search="uniform", **paper).fit(model, batches, F.cross_entropy).model)
    print(f"uniform {uniform:.2f}", flush=True)
    assert result.history[0]["cost"] <= 0.5
    assert ours >= before - 4
    assert ours > uniform


@needs_data
def test_students_learn_more_with_a_teacher(digits: Data, lenet5: nn.Module) -> None:
    from bench.training.families import trained_student

    for seed in range(3):
        alone, taught = (top1(trained_student(digits, by, seed), digits) for by in (None, lenet5))
        print(f"seed {seed}: {alone:.2f} -> {taught:.2f}")
        assert taught >= alone + 0.3


@needs_data
def test_block_circulant_layer_after_two_epochs(digits: Data, lenet5: nn.Module) -> None:
    few = Data((digits.train[0][:10_000], digits.train[1][:10_000]), digits.test)
    method = Compact({"ip1.weight": BlockCirculant(4)}, epochs=2, lr=0.005)
    result = method.fit(lenet5, Batches(few, 64), distill(lenet5))
    before, after = top1(lenet5, digits), top1(result.model, digits)
    print(f"{before:.2f} -> {after:.2f}")
    assert sum(p.numel() for p in result.model.parameters()) < 0.35 * sum(
        p.numel() for p in lenet5.parameters()
    )
    assert after >= before - 0.5
