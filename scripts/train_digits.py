"""Train the network that ``nncodec demo`` carries, and write both files of the demo.

    pip install '.[train]' && python scripts/train_digits.py

Data: the UCI "Optical Recognition of Handwritten Digits" set (E. Alpaydin and C. Kaynak, 1998; CC BY 4.0), of which
scikit-learn carries the 1,797 digits of its test part: 8 x 8 pixels of 0 to 16. Three of every ten digits (540) are
held out and become the test slice; the network is trained on the rest only.

One thread and one seed: the same machine gives the same bytes again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import nncodec

DEMO = Path(__file__).resolve().parents[1] / "python" / "nncodec" / "demo"


class DigitsNet(nn.Module):
    """Two 3x3 convolutions, one pooling, two dense layers: 85 thousand weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.dropout(F.relu(self.fc1(x.flatten(1))), 0.3, self.training)
        return self.fc2(x)


def shifted(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image moved by -1, 0 or 1 pixel along both axes, zeros coming in."""
    padded = F.pad(images, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(images), 2), generator=rng)
    return torch.stack([p[:, y : y + 8, x : x + 8] for p, (y, x) in zip(padded, moves.tolist(), strict=True)])


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    net.eval()
    with torch.no_grad():
        return float((net(images).argmax(1) == labels).float().mean())


def train(images: Tensor, labels: Tensor, epochs: int, seed: int) -> DigitsNet:
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = DigitsNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    batch = 64
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        net.train()
        order = torch.randperm(len(images), generator=rng)
        for start in range(0, len(order) - batch + 1, batch):
            pick = order[start : start + batch]
            loss = F.cross_entropy(net(shifted(images[pick], rng)), labels[pick], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=DEMO, help="folder of the two files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    pixels, digits = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 1, 8, 8).astype(np.uint8)
    labels = digits.astype(np.uint8)
    held_out = np.arange(len(images)) % 10 < 3
    as_input = torch.from_numpy(images.astype(np.float32) / 16)
    target = torch.from_numpy(labels.astype(np.int64))

    net = train(as_input[~held_out], target[~held_out], args.epochs, args.seed)
    got = accuracy(net, as_input[held_out], target[held_out])
    weights = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    print(f"{sum(w.size for w in weights.values())} weights, accuracy on held-out digits {100 * got:.2f} %")

    source = "UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), CC BY 4.0"
    nncodec.save_file(
        weights,
        args.out / "digits.nncz",
        metadata={"trained_by": "scripts/train_digits.py", "data": source, "accuracy": f"{got:.6f}"},
    )
    nncodec.save_file(
        {"images": images[held_out, 0], "labels": labels[held_out]},
        args.out / "test_slice.nncz",
        metadata={"data": source, "scale": "0 to 16"},
    )


if __name__ == "__main__":
    main()
