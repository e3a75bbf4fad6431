"""Folded batch normalisation computes the same function."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from nncodec.train import fold_batchnorm  # noqa: E402


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.bn2 = nn.BatchNorm2d(6, affine=False)
        self.first = nn.BatchNorm2d(3)  # after no layer
        self.shared = nn.Conv2d(6, 6, 1)
        self.bn3 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 4)
        self.bn4 = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(self.first(x))))
        x = F.relu(self.bn2(self.conv2(x)) + x)
        y = self.shared(x)
        x = self.bn3(y) + y  # what the normalisation reads is read elsewhere too
        return self.bn4(self.fc(x.mean((2, 3))))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    model = Net()
    for _ in range(20):
        model(torch.randn(16, 3, 8, 8) * 2 + 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model.eval()


def test_computes_the_same(net: nn.Module) -> None:
    x = torch.randn(5, 3, 8, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded = fold_batchnorm(net)
    torch.testing.assert_close(folded(x), net(x), rtol=1e-4, atol=1e-5)
    left = {
        name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    assert left == {"first", "bn3"}
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert fold_batchnorm(net, inplace=True) is net
    torch.testing.assert_close(net(x), folded(x))


def test_named_pairs(net: nn.Module) -> None:
    x = torch.randn(5, 3, 8, 8)
    folded = fold_batchnorm(net, pairs=[("conv1", "bn1")])
    assert isinstance(folded.bn1, nn.Identity)
    assert isinstance(folded.bn2, nn.BatchNorm2d)
    torch.testing.assert_close(folded(x), net(x), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_folded(net: nn.Module) -> None:
    with pytest.raises(ValueError, match="pairs"):
        fold_batchnorm(net, pairs=[("bn1", "conv1")])
    with pytest.raises(ValueError, match="channels"):
        fold_batchnorm(net, pairs=[("conv1", "first")])
    loose = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6, track_running_stats=False))
    with pytest.raises(ValueError, match="statistics"):
        fold_batchnorm(loose)

    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="traced"):
        fold_batchnorm(Branching())


def near(folded: nn.Module, model: nn.Module, x: Tensor) -> None:
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)


def settled(norm: nn.Module) -> nn.Module:
    """With statistics that are not those of a new one."""
    torch.manual_seed(1)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


def test_a_weight_of_two_layers_stays() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    net = nn.Sequential(first, settled(nn.BatchNorm1d(4)), second, settled(nn.BatchNorm1d(4))).eval()
    near(fold_batchnorm(net), net, torch.randn(5, 4))
    with pytest.raises(ValueError, match="'0' is computed, or another layer's"):
        fold_batchnorm(net, pairs=[("0", "1")])


def test_a_computed_weight_stays() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    net = nn.Sequential(layer, settled(nn.BatchNorm1d(4))).eval()
    near(fold_batchnorm(net), net, torch.randn(5, 4))
    with pytest.raises(ValueError, match="computed"):
        fold_batchnorm(net, pairs=[("0", "1")])


def test_positions_are_no_features() -> None:
    """Of three dimensions the second is normalised, which no layer's weights can do."""
    positions = nn.Sequential(nn.Linear(8, 4), settled(nn.BatchNorm1d(6))).eval()
    near(fold_batchnorm(positions), positions, torch.randn(5, 6, 8))
    either = nn.Sequential(nn.Linear(8, 4), settled(nn.BatchNorm1d(4))).eval()
    near(fold_batchnorm(either), either, torch.randn(5, 8))
    with pytest.raises(ValueError, match="3 dimensions"):
        fold_batchnorm(either)(torch.randn(5, 4, 8))


def test_bad_pairs_change_nothing(net: nn.Module) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for pairs, message in (
        ([("conv1", "bn1"), ("fc", "bn2")], "6 channels, 'fc' 4"),
        ([("conv1", "bn1"), ("conv1", "bn1")], "twice"),
    ):
        with pytest.raises(ValueError, match=message):
            fold_batchnorm(net, pairs=pairs, inplace=True)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert isinstance(net.bn1, nn.BatchNorm2d)
