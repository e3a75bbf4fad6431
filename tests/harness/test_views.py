"""Windows of images with a teacher's word on the same pixels."""

from __future__ import annotations

import argparse

import pytest

torch = pytest.importorskip("torch")

from bench.training.distilled import distilled_loss  # noqa: E402
from bench.training.views import Stages, Views  # noqa: E402
from bench.training.windows import Windows, add_options, chosen_windows  # noqa: E402


def numbered(count: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose pixels say where they are: channel 0 the image, 1 the row, 2 the column."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    images = torch.stack(
        [torch.stack([torch.full((side, side), i + 1), y + 1, x + 1]) for i in range(count)]
    ).float()
    return images, torch.arange(count)


def corner(images: torch.Tensor) -> torch.Tensor:
    """A teacher that tells windows apart, and images."""
    return torch.stack([images[:, 0].amax((1, 2)), images[:, 1, 0, 0], images[:, 2, 0, 0]], 1)


@pytest.mark.parametrize("side", [6, 10])
def test_windows_are_pieces_of_the_images(side: int) -> None:
    images, labels = numbered(30, 10)
    views = Views(images, labels, [corner], views=3, side=side, batch=10, shift=2)
    seen, directions = set(), set()
    for shown, (of, logits) in views:
        assert shown.shape == (10, 3, side, side)
        torch.testing.assert_close(logits, corner(shown))  # small integers are bfloat16 numbers
        for image, label in zip(shown, of, strict=True):
            seen.add(int(label))
            inside = image[0] > 0  # beyond the border all channels are 0
            assert set(image[0][inside].tolist()) == {float(label) + 1}
            if side == 6:  # room enough in the image itself
                assert inside.all()
            else:
                assert inside.float().mean() >= (8 / 10) ** 2
            rows, columns = image[1][inside], image[2][inside]
            assert len(rows.unique()) * len(columns.unique()) == inside.sum()
            (step,) = image[2].amax(0)[image[2].amax(0) > 0].diff().unique().tolist()
            directions.add(step)
    assert seen == set(range(30))
    assert directions == {1.0, -1.0}  # as they are, and mirrored
    assert len(views) == 3


def test_every_epoch_shows_another_window_until_they_begin_again() -> None:
    images, labels = numbered(40, 12)
    views = Views(images, labels, [corner], views=2, side=6, batch=40)

    def shown() -> list[list[float]]:
        ((_, (of, logits)),) = list(views)
        return logits[of.argsort()].tolist()

    first, second, third = shown(), shown(), shown()
    assert first == third
    assert sum(a != b for a, b in zip(first, second, strict=True)) > 20


def test_teachers_agree_on_their_mean_and_may_be_missing() -> None:
    images, labels = numbered(4, 8)
    views = Views(images, labels, [corner, lambda x: 3 * corner(x)], views=1, side=6, batch=4)
    ((shown, (_, logits)),) = list(views)
    torch.testing.assert_close(logits, 2 * corner(shown))
    ((_, (of, nothing)),) = list(Views(images, labels, [], views=1, side=6, batch=4))
    assert of.shape == (4,)
    assert nothing is None


@pytest.mark.parametrize(
    ("shape", "views", "side", "match"),
    [
        ((4, 3, 8, 10), 1, 6, "side, side"),
        ((4, 3, 8, 8), 0, 6, "0 windows"),
        ((4, 3, 8, 8), 1, 17, "17 pixels"),
    ],
)
def test_windows_that_cannot_be_had(shape: tuple[int, ...], views: int, side: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Views(torch.zeros(shape), torch.zeros(4), [], views=views, side=side, batch=2)


def test_stages_follow_each_other_and_the_last_goes_on() -> None:
    images, labels = numbered(4, 8)
    first, second = (Views(images, labels, [corner], views=1, side=side, batch=2) for side in (4, 6))
    both = Stages([(first, 2), (second, 1)])
    epochs = [list(both) for _ in range(5)]
    assert [{shown.shape[-1] for shown, _ in batches} for batches in epochs] == [{4}, {4}, {6}, {6}, {6}]


def test_no_one_may_train_on_what_no_teacher_has_seen() -> None:
    ((_, target),) = list(Views(*numbered(4, 8), [], views=1, side=6, batch=4))
    with pytest.raises(TypeError):
        distilled_loss(0.5)(torch.zeros(4, 3), target)


@pytest.mark.parametrize("epochs", [2, 3, 7, 68, 135])
def test_windows_last_as_long_as_training(epochs: int) -> None:
    windows = Windows((24, 28), (58, 10), ("a",)).lasting(epochs)
    assert sum(windows.epochs) == epochs
    assert windows.epochs[0] == pytest.approx(58 / 68 * epochs, abs=0.5)
    assert len(windows.sides) == len(windows.epochs)


def test_loss_is_least_where_the_student_says_what_the_teacher_says() -> None:
    labels = torch.tensor([1, 0])
    taught = torch.tensor([[0.5, 2.0], [1.0, -1.0]])
    loss = distilled_loss(1.0, 4.0)
    said = (taught / 4).softmax(1)
    entropy = -(said * said.log()).sum(1).mean()
    torch.testing.assert_close(loss(taught, (labels, taught)), 16 * entropy)
    assert float(loss(-taught, (labels, taught))) > 16 * float(entropy) + 0.1
    alone = distilled_loss(0.0, 4.0)
    expected = torch.nn.functional.cross_entropy(taught, labels)
    torch.testing.assert_close(alone(taught, (labels, -taught)), expected)


def test_most_windows_are_of_the_side_of_most_epochs() -> None:
    windows = Windows((20, 24, 28), (6, 9, 1), ("a",), 5)
    assert [windows.views_of(number) for number in range(3)] == [3, 5, 1]


def windows_of(options: str, default: Windows | None = None) -> Windows | None:
    parser = argparse.ArgumentParser()
    parser.add_argument("network")
    parser.add_argument("--device", default="cpu")
    add_options(parser)
    return chosen_windows(parser, parser.parse_args(options.split()), default)


def test_options() -> None:
    default = Windows((24, 28), (58, 10), ("a",), 3)
    assert windows_of("resnet20_cifar10") is None
    assert windows_of("resnet20_cifar10", default) == default
    assert windows_of("resnet20_cifar10 --sides", default) is None
    assert windows_of("resnet20_cifar10 --windows 9 1 --views 7", default) == Windows(
        (24, 28), (9, 1), ("a",), 7
    )
    alone = Windows((24, 32), (2, 1), ("resnet20_cifar10",))
    assert windows_of("resnet20_cifar10 --sides 24 32 --windows 2 1") == alone


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("resnet20_cifar10 --sides 24", "--windows go together"),
        ("resnet20_cifar10 --teachers a", "--windows go together"),
        ("resnet20_cifar10 --sides 24 --windows 1 2", "as many epochs as sides"),
        ("resnet20_cifar10 --sides 24 --windows 0", "must be positive"),
        ("resnet20_cifar10 --sides 24 --windows 1 --views 0", "must be positive"),
        ("lenet5_mnist --sides 24 --windows 1", "CIFAR-10 networks"),
    ],
)
def test_options_that_do_not_go_together(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        windows_of(options)
    assert said in capsys.readouterr().err
