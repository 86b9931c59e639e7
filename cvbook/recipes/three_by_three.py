"""One 5x5 convolution against two of 3x3 that see the same 25 pixels: three bodies, five seeds.

The argument of Simonyan & Zisserman 2014 (https://arxiv.org/abs/1409.1556, section 2.3) has two parts: fewer
parameters, and one more ReLU. The third body, two 3x3 convolutions without a ReLU between them, takes them apart.

Run: ``python -m cvbook.recipes.three_by_three`` (15 trainings, 5 s each on one free CPU core). It stores
``three_by_three``: training and test accuracy of every run. ``python -m cvbook.recipes.three_by_three faster`` repeats
it at three times the rate with four seeds and stores ``three_by_three_faster``.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor, nn

from cvbook import weights
from cvbook.data import fashion_mnist
from cvbook.train import accuracy, fit

__all__ = ["BODIES", "main", "network", "train"]

BODIES = ("one 5x5", "two 3x3", "two 3x3, no ReLU between")
WIDTH, COUNT, EPOCHS = 16, 5_000, 8


def body(kind: str) -> list[nn.Module]:
    """Convolutions from ``WIDTH`` to ``WIDTH`` channels that see 5x5 pixels.

    Raises:
        ValueError: if ``kind`` is none of `BODIES`.
    """
    if kind not in BODIES:
        raise ValueError(f"expected one of {', '.join(BODIES)}, got {kind!r}")
    if kind == "one 5x5":
        return [nn.Conv2d(WIDTH, WIDTH, 5, padding=2), nn.ReLU()]
    first, second = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(2))
    return [first, second, nn.ReLU()] if "no ReLU" in kind else [first, nn.ReLU(), second, nn.ReLU()]


def network(kind: str, *, seed: int) -> nn.Sequential:
    """A 3x3 stem, two bodies, each behind a pooling, and a linear head, for images of 28x28."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, WIDTH, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), *body(kind),  # 14x14
        nn.MaxPool2d(2), *body(kind),  # 7x7
        nn.Flatten(), nn.Linear(WIDTH * 49, 10),
    )  # fmt: skip


def train(
    kind: str, images: Tensor, labels: Tensor, *, seed: int, epochs: int = EPOCHS, lr: float = 3e-3
) -> nn.Sequential:
    """AdamW with `fit`'s one-cycle schedule."""
    model = network(kind, seed=seed)
    fit(model, images, labels, epochs=epochs, seed=seed, lr=lr, progress=False)
    return model


def main(
    *, count: int = COUNT, epochs: int = EPOCHS, seeds: int = 5, lr: float = 3e-3, name: str = "three_by_three"
) -> None:
    """Train, measure and store; the arguments shrink the job for tests."""
    images, labels = fashion_mnist("train")
    test_images, test_labels = fashion_mnist("test")
    images, labels = images[:count], labels[:count]
    started = time.perf_counter()
    found: dict[str, list[list[float]]] = {}
    for kind in BODIES:
        found[kind] = []
        for seed in range(seeds):
            model = train(kind, images, labels, seed=seed, epochs=epochs, lr=lr)
            found[kind].append([accuracy(model, images, labels), accuracy(model, test_images, test_labels)])
        print(kind, found[kind], round(time.perf_counter() - started), flush=True)
    weights.save(
        name, {kind: torch.tensor(runs) for kind, runs in found.items()},
        recipe="cvbook.recipes.three_by_three", seed=list(range(seeds)), images=count, epochs=epochs, lr=lr,
        seconds=round(time.perf_counter() - started), metrics=found,
    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:] == ["faster"]:
        main(seeds=4, lr=1e-2, name="three_by_three_faster")
    else:
        main()
