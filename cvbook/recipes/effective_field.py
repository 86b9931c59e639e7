"""Train the ten-layer network whose effective receptive field the lesson compares before and after training.

Run: ``python -m cvbook.recipes.effective_field`` (about two minutes on two cores). Two seeds; the card tells the
accuracy, and the standard deviation of the field before and after training.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from cvbook import data, train, weights
from cvbook.convolution.receptive import effective_receptive_field

NAME = "effective_field"
LAYERS, WIDTH = 10, 16


def network(seed: int) -> nn.Sequential:
    """Ten 3x3 convolutions with batch normalization and ReLU, then a head: features ``[:-3]`` see 21 x 21 pixels.

    Args:
        seed: of the initial parameters.

    >>> network(0)[:-3](torch.zeros(1, 1, 28, 28)).shape
    torch.Size([1, 16, 28, 28])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for i in range(LAYERS):
            layers += [
                nn.Conv2d(WIDTH if i else 1, WIDTH, 3, padding=1, bias=False),
                nn.BatchNorm2d(WIDTH),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 10))


def spread(field: Tensor) -> float:
    """Standard deviation in pixels of a field ``(H, W)`` with sum 1: root of the mean variance of both axes.

    >>> spread(torch.full((3, 3), 1 / 9))
    0.816...
    """
    variances = []
    for weight in (field.sum(0), field.sum(1)):
        place = torch.arange(len(weight), dtype=weight.dtype)
        mean = (weight * place).sum() / weight.sum()
        variances.append((weight * (place - mean) ** 2).sum() / weight.sum())
    return float(torch.stack(variances).mean().sqrt())


def main(*, seeds: int = 2, images: int = 6_000, epochs: int = 2, name: str = NAME) -> dict[str, list[float]]:
    """Train, measure and store; returns the metrics written on the card (one number for each seed).

    Args:
        seeds: networks to train.
        images: training images, from the start of the shipped sample.
        epochs: passes over them.
        name: of the checkpoint.
    """
    started = time.perf_counter()
    x, y = data.fashion_mnist("train")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:images]
    x, y = x[order], y[order]
    test_x, test_y = data.fashion_mnist("test")
    tensors: dict[str, Tensor] = {}
    metrics: dict[str, list[float]] = {"untrained_std": [], "trained_std": [], "test_accuracy": []}
    for seed in range(seeds):
        net = network(seed)
        metrics["untrained_std"].append(spread(effective_receptive_field(net[:-3], test_x[::20])))
        train.fit(net, x, y, epochs=epochs, seed=seed, progress=False, batch_size=min(128, images))
        metrics["trained_std"].append(spread(effective_receptive_field(net[:-3], test_x[::20])))
        metrics["test_accuracy"].append(train.accuracy(net, test_x, test_y))
        tensors |= {f"{seed}.{key}": value for key, value in net.state_dict().items()}
        print({key: round(values[-1], 3) for key, values in metrics.items()}, round(time.perf_counter() - started))
    weights.save(
        name,
        tensors,
        recipe=f"cvbook.recipes.{NAME}",
        seed=list(range(seeds)),
        images=images,
        epochs=epochs,
        seconds=round(time.perf_counter() - started),
        metrics=metrics,
    )
    return metrics


if __name__ == "__main__":
    main()
