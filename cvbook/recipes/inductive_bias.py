"""Accuracy against parameters for three families of networks, trained alike on Fashion-MNIST.

Run: ``python -m cvbook.recipes.inductive_bias`` (about three quarters of an hour). Every network sees the same 10 000
images for the same number of epochs, with the same optimizer and schedule, at the better of two learning rates. What is
stored is the table of results; the lesson *Inductive bias* trains some of its rows again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cvbook import data, weights
from cvbook.train import accuracy, fit

NAME = "inductive_bias"
EPOCHS = 5
RATES = (3e-3, 1e-2)
SEEDS = (0, 1, 2)


def mlp(width: int) -> nn.Module:
    """Flatten, two hidden layers: no idea of what is near what."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def lenet(width: int) -> nn.Module:
    """Two convolutions with pooling, then dense layers; ReLU and max pooling."""
    return nn.Sequential(
        nn.Conv2d(1, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),  # 28 -> 14
        nn.Conv2d(width, 2 * width, 5), nn.ReLU(), nn.MaxPool2d(2),  # 14 -> 10 -> 5
        nn.Flatten(), nn.Linear(2 * width * 25, 4 * width), nn.ReLU(),
        nn.Linear(4 * width, 10),
    )  # fmt: skip


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalization, added to their input."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False), nn.BatchNorm2d(channels_out),
        )  # fmt: skip
        same = stride == 1 and channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels_in, H, W)`` to ``(B, channels_out, H / stride, W / stride)``."""
        return torch.relu(self.skip(x) + self.body(x))


def resnet(width: int) -> nn.Module:
    """Three residual blocks, 28 -> 14 -> 7, a global average, one dense layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10),
    )  # fmt: skip


FAMILIES: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
    "MLP": (mlp, (8, 32, 128, 512)),
    "LeNet": (lenet, (2, 4, 8, 16, 32)),
    "ResNet": (resnet, (2, 4, 8, 16)),
}


def parameters(model: nn.Module) -> int:
    """The number of trainable numbers in a network."""
    return sum(p.numel() for p in model.parameters())


def measure(make: Callable[[int], nn.Module], width: int, rate: float, seed: int, *, images: int, epochs: int) -> float:
    """Test accuracy in percent of one network, trained from scratch on the first ``images`` images."""
    torch.manual_seed(seed)
    model = make(width)
    x, y = data.fashion_mnist("train")
    fit(model, x[:images], y[:images], epochs=epochs, lr=rate, batch_size=100, seed=seed, progress=False)
    return 100 * accuracy(model, *data.fashion_mnist("test"))


def main(*, images: int = 10_000, epochs: int = EPOCHS, seeds: tuple[int, ...] = SEEDS, name: str = NAME) -> None:
    """Train everything and store the table."""
    started = time.perf_counter()
    rows = []
    for family, (make, widths) in FAMILIES.items():
        for width in widths:
            first = {rate: measure(make, width, rate, seeds[0], images=images, epochs=epochs) for rate in RATES}
            rate = max(first, key=first.__getitem__)
            found = [first[rate]] + [measure(make, width, rate, s, images=images, epochs=epochs) for s in seeds[1:]]
            row = {"family": family, "width": width, "parameters": parameters(make(width)), "lr": rate}
            rows.append({**row, "accuracy": [round(a, 2) for a in found]})
            print(rows[-1], flush=True)
    table = torch.tensor([row["accuracy"] for row in rows])
    weights.save(
        name, {"accuracy": table}, recipe="cvbook.recipes.inductive_bias", seed=list(seeds), images=images,
        epochs=epochs, rows=rows, seconds=round(time.perf_counter() - started),
    )  # fmt: skip


if __name__ == "__main__":
    main()
