"""Train multilayer perceptrons of 2 to 30 hidden layers: five ways to start, two optimizers, three rates, three seeds.

Run: ``python -m cvbook.recipes.depth`` (360 networks, 0.3 to 3 s each on one busy CPU core). It stores ``depth``: the
accuracy of every network on images that chose the rate, and on the test images. A run that diverges counts as it is
then; where its outputs are NaN, they count as misses.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cvbook import weights
from cvbook.data import fashion_mnist
from cvbook.neuron.initialization import mlp
from cvbook.train import accuracy, fit

STARTS = (("sigmoid", "xavier"), ("tanh", "xavier"), ("relu", "default"), ("relu", "xavier"), ("relu", "he"))
DEPTHS = (2, 5, 10, 30)
RATES = {"sgd": (0.01, 0.03, 0.1), "adamw": (3e-4, 1e-3, 3e-3)}
WIDTH = 100


def network(activation: str, init: str, depth: int, *, seed: int) -> nn.Sequential:
    """An MLP for 28x28 pixels with ``depth`` hidden layers of 100 units."""
    torch.manual_seed(seed)
    return mlp([784] + [WIDTH] * depth + [10], activation=activation, init=init)


def train(model: nn.Module, images: Tensor, labels: Tensor, *, optimizer: str, rate: float, seed: int) -> None:
    """Four passes in batches of 64, with `fit`'s one-cycle schedule, which gives ``"sgd"`` its momentum."""
    make: Callable[[Any], torch.optim.Optimizer] | None = None  # AdamW
    if optimizer == "sgd":
        make = functools.partial(torch.optim.SGD, lr=rate)
    with contextlib.suppress(FloatingPointError):
        fit(model, images, labels, epochs=4, lr=rate, batch_size=64, seed=seed, optimizer=make, progress=False)
    model.eval()


def main(*, count: int = 5_000, seeds: int = 3, depths: tuple[int, ...] = DEPTHS, starts: Any = STARTS) -> None:
    """Train, measure and store; the arguments shrink the job for tests."""
    images, labels = fashion_mnist("train")
    test_images, test_labels = fashion_mnist("test")
    chosen = slice(count, count + 2_000)  # not trained on: they choose the rate
    started = time.perf_counter()
    tensors: dict[str, Tensor] = {}
    best: dict[str, dict[str, list[float]]] = {}
    for optimizer, rates in RATES.items():
        for activation, init in starts:
            found = torch.zeros(len(depths), len(rates), seeds, 2)  # accuracy on the choosing and on the test images
            for i, depth in enumerate(depths):
                for j, rate in enumerate(rates):
                    for seed in range(seeds):
                        model = network(activation, init, depth, seed=seed)
                        train(model, images[:count], labels[:count], optimizer=optimizer, rate=rate, seed=seed)
                        found[i, j, seed, 0] = accuracy(model, images[chosen], labels[chosen])
                        found[i, j, seed, 1] = accuracy(model, test_images, test_labels)
            name = f"{optimizer}.{activation}.{init}"
            tensors[name] = found
            best[name] = {str(d): at_best_rate(found[i]) for i, d in enumerate(depths)}
            print(name, best[name], round(time.perf_counter() - started), flush=True)
    weights.save(
        "depth", tensors, recipe="cvbook.recipes.depth", seed=list(range(seeds)), images=count, epochs=4,
        batch_size=64, width=WIDTH, rates={k: list(v) for k, v in RATES.items()},
        seconds=round(time.perf_counter() - started), metrics=best,
    )  # fmt: skip


def at_best_rate(found: Tensor) -> list[float]:
    """From ``(rates, seeds, 2)`` the test accuracies of the rate that is best, on average, on the choosing images."""
    rate = int(found[..., 0].mean(1).argmax())
    return [round(value, 4) for value in found[rate, :, 1].tolist()]


if __name__ == "__main__":
    main()
