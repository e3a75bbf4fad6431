"""Moments collected by hooks equal those computed by hand; the model comes back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nncodec
from nncodec.calibration import Calibration, calibrate

torch = pytest.importorskip("torch")
nn = torch.nn


def linear() -> tuple[nn.Module, list[torch.Tensor]]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), list(torch.randn(3, 6, 5))


def test_input_moments_of_linear_layers() -> None:
    model, batches = linear()
    found = calibrate(model, batches)
    assert list(found) == ["0.weight", "2.weight"]
    assert found.examples == 18
    x = torch.cat(batches).double()
    hidden = torch.cat([model[:2](batch) for batch in batches]).detach().double()
    for name, seen in (("0.weight", x), ("2.weight", hidden)):
        assert found[name].vectors == 18
        np.testing.assert_allclose(found[name].input, (seen.T @ seen)[None], rtol=1e-5)
        np.testing.assert_allclose(found[name].mean, seen.sum(0)[None], rtol=1e-4, atol=1e-5)


def test_output_moments_are_gauss_newton() -> None:
    """For a linear map the output side is exact: with signs v it is the mean of (W2^T v)(W2^T v)^T."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Linear(4, 3, bias=False))
    found = calibrate(model, [torch.randn(4000, 5)])
    wanted = (model[1].weight.T @ model[1].weight).detach().numpy()
    np.testing.assert_allclose(found["0.weight"].output / 4000, wanted, atol=0.1 * np.abs(wanted).max())
    np.testing.assert_allclose(np.diag(found["1.weight"].output), 4000)


def test_importance_predicts_the_output_error() -> None:
    """Noise shaped like 1 / sqrt(importance) disturbs the output by what the importance says."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2), nn.Flatten()
    )
    x = torch.randn(64, 3, 9, 9) * torch.tensor([0.1, 1.0, 4.0]).view(1, 3, 1, 1)
    found = calibrate(model, x.split(16))
    with torch.no_grad():
        clean = model(x)
    for name in found:
        importance = found[name].importance(found.examples)
        measured = []
        for trial in range(20):
            weight = model.get_parameter(name)
            kept = weight.detach().clone()
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(trial)) * 1e-3
            with torch.no_grad():
                weight += noise
                measured.append(float(((model(x) - clean) ** 2).sum() / len(x)))
                weight.copy_(kept)
        assert np.mean(measured) == pytest.approx(1e-6 * importance.sum(dtype=np.float64), rel=0.35)


def test_errors_common_to_all_positions_count_before_a_pooling() -> None:
    """Positive inputs that differ little within an image: their errors add up over the positions."""
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    x = torch.rand(96, 3, 1, 1) + 0.3 * torch.randn(96, 3, 8, 8)
    found = calibrate(model, x.split(32))
    assert found["2.weight"].coherence == pytest.approx(36)
    hidden = model[:2](x).detach().double().mean((2, 3))
    np.testing.assert_allclose(found["2.weight"].common, 36 * (hidden.T @ hidden)[None], rtol=1e-4)
    moments = found["2.weight"].moments[0]
    plain = found["2.weight"].input[0] / found["2.weight"].vectors
    np.testing.assert_allclose(moments, plain + 35 * (hidden.T @ hidden).numpy() / 96, rtol=1e-4)


def test_no_input_is_without_importance() -> None:
    torch.manual_seed(6)
    x = torch.randn(32, 4)
    x[:, 1] = 0
    importance = calibrate(nn.Linear(4, 3), [x])["weight"].importance(32)
    assert importance[:, 1].min() > 1e-3 * importance.mean()


CONVOLUTIONS = [
    nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
    nn.Conv2d(4, 6, (3, 2), stride=(2, 1), dilation=(1, 2), padding=(2, 1)),
    nn.Conv2d(4, 8, 3, padding="same", padding_mode="reflect", groups=4),
    nn.Conv2d(3, 2, 2, padding="same"),
    nn.Conv3d(2, 3, 2, padding="valid"),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_patches_are_what_a_convolution_multiplies(layer: nn.Module) -> None:
    from nncodec.moments import patches

    torch.manual_seed(3)
    size = (5, 6, 7)[: layer.weight.ndim - 2]
    x = torch.randn(2, layer.in_channels, *size)
    kernels = layer.weight.reshape(layer.groups, -1, layer.weight[0].numel())
    wanted = layer(x) - layer.bias.view(1, -1, *[1] * len(size))
    got = torch.einsum("gvk,gok->vgo", patches(layer, x), kernels).reshape(2, *wanted.shape[2:], -1)
    torch.testing.assert_close(got.movedim(-1, 1), wanted)


def test_patches_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    import nncodec.moments as inside

    layer, x = nn.Conv2d(3, 4, 3), torch.randn(7, 3, 6, 6)
    whole = calibrate(layer, [x])["weight"]
    monkeypatch.setattr(inside, "_PATCH_ELEMENTS", 2000)
    pieces = calibrate(layer, [x])["weight"]
    assert pieces.vectors == whole.vectors == 7 * 16
    np.testing.assert_allclose(pieces.input, whole.input, rtol=1e-5, atol=1e-4)


class Tied(nn.Module):
    """An embedding whose weight is the output layer's too, and a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 4)
        self.out = nn.Linear(4, 11, bias=False)
        self.idle = nn.Linear(4, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.words(ids)).mean(1)


def test_embedding_counts_its_rows() -> None:
    model, ids = Tied(), torch.tensor([[1, 2, 2, 9], [1, 1, 0, 9]])
    found = calibrate(model, [ids])
    assert set(found) == {"words.weight", "out.weight"}
    rows = found["words.weight"]
    assert rows.is_embedding
    np.testing.assert_array_equal(rows.input, np.bincount(ids.ravel(), minlength=11))
    importance = rows.importance(found.examples)
    assert importance.shape == (11, 4)
    assert (importance[1] > importance[0]).all()
    assert (importance[0] > importance[5]).all()
    assert (importance[5] > 0).all()  # never read, but it may be


def test_a_weight_that_is_an_embedding_and_a_layer_counts_as_the_layer() -> None:
    torch.manual_seed(6)
    words, out = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    out.weight = words.weight
    tokens = torch.randint(7, (20,))
    found = calibrate(nn.Sequential(words, out), [tokens])
    assert list(found) == ["0.weight"]
    x = words.weight[tokens].detach().double()
    np.testing.assert_allclose(found["0.weight"].input, (x.T @ x)[None], rtol=1e-5)
    assert not found["0.weight"].is_embedding


def test_model_comes_back_as_it_was() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, 2)
    )
    model.train()
    model[4].eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    x = torch.randn(5, 1, 4, 4)
    found = calibrate(model, [x])
    assert found["0.weight"].output.any()  # frozen weights do not stop the way back
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


def test_hooks_go_when_the_model_fails() -> None:
    model, _ = linear()
    model.train()
    with pytest.raises(RuntimeError, match="shapes"):
        calibrate(model, [torch.zeros(2, 9)])
    assert model.training
    assert not model[0]._forward_hooks


def test_same_twice_and_through_a_file(tmp_path: Path) -> None:
    model, batches = linear()
    first, second = calibrate(model, batches), calibrate(model, batches)
    first.save(tmp_path / "c.nncz")
    loaded = Calibration.load(tmp_path / "c.nncz")
    assert list(loaded) == list(first)
    assert loaded.examples == first.examples
    for name, layer in first.items():
        for other in (second[name], loaded[name]):
            assert (other.shape, other.vectors) == (layer.shape, layer.vectors)
            assert other.coherence == layer.coherence
            for array in ("input", "mean", "output", "common"):
                np.testing.assert_array_equal(getattr(other, array), getattr(layer, array))


def test_load_refuses_other_files(tmp_path: Path) -> None:
    nncodec.save_file({"a": np.zeros(3)}, tmp_path / "other.nncz")
    with pytest.raises(ValueError, match="no calibration"):
        Calibration.load(tmp_path / "other.nncz")


def test_importance_fits_encode() -> None:
    model, batches = linear()
    importance = nncodec.calibrate(model, batches).importance()
    assert sum(a.sum() for a in importance.values()) == pytest.approx(
        sum(a.size for a in importance.values()), rel=1e-4
    )
    state = model.state_dict()
    assert all(importance[name].shape == tuple(state[name].shape) for name in importance)
    got = nncodec.decode(nncodec.encode(state, "uniform", snr_db=20, importance=importance))
    assert set(got) == set(state)


def test_a_power_of_importance_keeps_the_order_and_the_mean() -> None:
    model, batches = linear()
    calibration = nncodec.calibrate(model, batches)
    plain, less = calibration.importance(), calibration.importance(power=0.5)
    assert sum(a.sum() for a in less.values()) == pytest.approx(sum(a.size for a in less.values()), rel=1e-4)
    for name, array in plain.items():
        assert array.dtype == less[name].dtype == np.float32
        ratio = less[name] ** 2 / array
        np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-5)
    for power in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="power must be"):
            calibration.importance(power)


def test_inputs_by_position_and_by_name_and_progress() -> None:
    layer = nn.Bilinear(2, 2, 1)
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": layer})
    model.forward = lambda x, y: layer(model["a"](x), y)
    x, y = torch.randn(3, 2), torch.randn(3, 2)
    said: list[tuple[int, int | None]] = []
    by_position = calibrate(model, [(x, y)], progress=lambda *where: said.append(where))
    by_name = calibrate(model, iter([{"x": x, "y": y}]), progress=lambda *where: said.append(where))
    np.testing.assert_array_equal(by_position["a.weight"].input, by_name["a.weight"].input)
    assert said == [(1, 1), (1, None)]


def test_bad_calls() -> None:
    model, batches = linear()
    with pytest.raises(ValueError, match="batches is empty"):
        calibrate(model, [])
    with pytest.raises(ValueError, match="no linear"):
        calibrate(nn.ReLU(), batches)
    with pytest.raises(TypeError, match="output="):
        calibrate(Pair(), batches)
    assert calibrate(Pair(), batches, output=lambda pair: pair[0]).examples == 18


class Pair(nn.Module):
    """Returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.a(x), x
