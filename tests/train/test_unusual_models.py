"""What methods do with models and loaders that are not as they expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.utils.parametrizations import weight_norm  # noqa: E402

import nncodec  # noqa: E402
from nncodec.train import ENC, Compact, MLPrune, PostTraining, StraightThrough  # noqa: E402
from nncodec.train.batchnorm import measure_statistics  # noqa: E402
from nncodec.train.calibrating import stratified  # noqa: E402
from nncodec.train.kfac import likelihood  # noqa: E402
from nncodec.train.structures import BlockCirculant  # noqa: E402

PYTHON = Path(nncodec.__file__).parent


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)
    )


def examples(count: int = 60) -> list[Any]:
    torch.manual_seed(2)
    return [(torch.randn(count, 6), torch.arange(count) % 4)]


def pruning(**options: Any) -> MLPrune:
    return MLPrune(sparsity=0.5, **{"steps": 2, "iterations": 10, **options})


def quantising(**options: Any) -> PostTraining:
    return PostTraining(**{"target": 4.0, "prune_steps": 1, "steps": 1, "iterations": 10, **options})


def check_stored(result: Any) -> None:
    state = result.model.state_dict()
    back = nncodec.decode(nncodec.encode(state, result.codec))
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_training_is_imported_without_the_engine() -> None:
    code = f"""
import sys
from types import ModuleType
class Engineless:
    def find_spec(self, name, path=None, target=None):
        if name == "nncodec._core":
            raise ImportError(name)
sys.meta_path.insert(0, Engineless())
package = ModuleType("nncodec")
package.__path__ = [{str(PYTHON)!r}]
sys.modules["nncodec"] = package
import nncodec.train
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize("method", [pruning(), StraightThrough(clusters=3, epochs=1)])
def test_nan_parameters_are_refused(method: Any) -> None:
    model = network()
    model[3].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"'3\.weight' has NaN"):
        method.fit(model, examples(), F.cross_entropy)


def test_frozen_models_are_pruned_but_not_trained() -> None:
    model = network().requires_grad_(False)
    check_stored(pruning().fit(model, examples(), F.cross_entropy))
    for method in (pruning(epochs=1), StraightThrough(clusters=3, epochs=1), ENC(0.7, epochs=1)):
        with pytest.raises(ValueError, match="nothing can be trained"):
            method.fit(model, examples(), F.cross_entropy)


def test_other_outputs_than_logits_are_told() -> None:
    class Named(nn.Sequential):
        def forward(self, x: Any) -> Any:
            return {"logits": super().forward(x)}

    with pytest.raises(TypeError, match="logits as a tensor"):
        pruning().fit(Named(*network()), examples(), lambda out, y: F.cross_entropy(out["logits"], y))
    x, _ = examples()[0]
    one = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    for fisher in ("true", "sampled"):
        with pytest.raises(ValueError, match="two classes"):
            pruning(fisher=fisher).fit(one, [(x, x[:, :1])], F.mse_loss)
    check_stored(pruning(fisher="output").fit(one, [(x, x[:, :1])], F.mse_loss))


def test_likelihood_has_a_derivative_where_a_class_is_ruled_out() -> None:
    logits = torch.tensor([[300.0, 0.0, 299.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(likelihood(logits).sum(), logits)
    assert bool(torch.isfinite(gradient).all())
    usual = torch.randn(5, 7)
    torch.testing.assert_close(likelihood(usual), 2 * usual.softmax(-1).sqrt())


@pytest.mark.parametrize("count", [501, 1003])
def test_calibration_batches_are_of_one_size(count: int) -> None:
    sizes = [len(y) for _, y in stratified(examples(count), 2000)]
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    pruning(steps=1, iterations=2).fit(network(), examples(count), F.cross_entropy)


def test_statistics_are_measured_without_dropout_and_not_of_nothing() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(6))
    x, y = examples()[0]
    measure_statistics(model, [(x, y)])
    torch.testing.assert_close(model[1].running_var, x.var(0))
    with pytest.raises(ValueError, match="empty"):
        measure_statistics(model, [])


def test_double_precision_is_stored_exactly() -> None:
    x, y = examples()[0]
    result = quantising().fit(network().double(), [(x.double(), y)], F.cross_entropy)
    check_stored(result)


def test_computed_weights_are_left_alone() -> None:
    model = network()
    weight_norm(model[3])
    for method in (pruning(), StraightThrough(clusters=3, epochs=1)):
        result = method.fit(model, examples(), F.cross_entropy)
        assert "0.weight" in result.codec
        assert "3.weight" not in result.codec
        check_stored(result)


def test_structures_leave_shared_weights_alone() -> None:
    model = network()
    model.insert(4, nn.Linear(16, 16))
    model[4].weight = model[3].weight
    with pytest.raises(ValueError, match="shares"):
        Compact({"3.weight": BlockCirculant(4)}).fit(model, examples(), F.cross_entropy)


def test_low_rank_takes_a_layer_of_two_places_as_one() -> None:
    layer = nn.Linear(16, 16)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(16, 4))
    result = ENC(0.6).fit(model, examples(), F.cross_entropy)
    assert "2.weight" in result.history[0]["ranks"]
    assert result.model[2] is result.model[4]
    check_stored(result)


def test_files_larger_than_wanted_are_told() -> None:
    with pytest.warns(UserWarning, match="instead of 10"):
        MLPrune(size=10, steps=1, iterations=5).fit(network(), examples(), F.cross_entropy)
    with pytest.warns(UserWarning, match="no fewer"):
        quantising(target=10.0, unit="bytes").fit(network(), examples(), F.cross_entropy)


def test_a_retrained_original_is_kept_in_the_checkpoint(tmp_path: Path) -> None:
    options: dict[str, Any] = {"compensation": "corrected", "between": 1, "epochs": 1}
    whole = pruning(**options).fit(network(), examples(), F.cross_entropy)

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    path = tmp_path / "run.nncz"
    with pytest.raises(KeyboardInterrupt):
        pruning(**options, checkpoint=path, progress=stop).fit(network(), examples(), F.cross_entropy)
    resumed = pruning(**options, checkpoint=path).fit(network(), examples(), F.cross_entropy)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    assert resumed.history == whole.history
