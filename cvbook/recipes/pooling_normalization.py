"""Two small experiments of the lesson "Pooling and normalization", three seeds each (half an hour on two cores).

``python -m cvbook.recipes.pooling_normalization`` stores every accuracy, and the networks of seed 0 in half precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook import weights
from cvbook.data import fashion_mnist
from cvbook.train import accuracy, fit

DOWN: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity, "stride": nn.Identity, "max": lambda: nn.MaxPool2d(2),
    "overlapping": lambda: nn.MaxPool2d(3, stride=2, padding=1), "average": lambda: nn.AvgPool2d(2),
    "max, full size": lambda: nn.MaxPool2d(3, stride=1, padding=1),
}  # fmt: skip
SHORT = ("none", "stride", "max", "overlapping", "average")
PLACES = ("none", "before", "after")
RATES = (0.02, 0.1, 0.3)


def pooling_network(kind: str) -> nn.Sequential:
    """Two convolutions, each followed by one way of halving the side (or none), and a linear head."""
    stride, side = (2 if kind == "stride" else 1), (28 if kind in ("none", "max, full size") else 7)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=stride, padding=1), nn.ReLU(), DOWN[kind](),
        nn.Conv2d(16, 32, 3, stride=stride, padding=1), nn.ReLU(), DOWN[kind](),
        nn.Flatten(), nn.Linear(32 * side * side, 10),
    )  # fmt: skip


def placement_network(place: str) -> nn.Sequential:
    """Six convolutions with batch normalization ``"before"`` the ReLU, ``"after"`` it, or ``"none"``."""
    parts: list[nn.Module] = []
    for fan_in, fan_out, stride in [(1, 16, 1), (16, 16, 2), (16, 32, 1), (32, 32, 2), (32, 32, 1), (32, 32, 1)]:
        convolution = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1)
        nn.init.kaiming_normal_(convolution.weight)  # with torch's default, six layers without normalization starve
        parts.append(convolution)
        norm, relu = nn.BatchNorm2d(fan_out), nn.ReLU()
        following: dict[str, list[nn.Module]] = {"none": [relu], "before": [norm, relu], "after": [relu, norm]}
        parts += following[place]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def descend(
    model: nn.Module, images: Tensor, labels: Tensor, *, rate: float, epochs: int, batch_size: int, seed: int
) -> None:
    """Plain stochastic gradient descent, nothing else, so that the learning rate means what it says."""
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for index in torch.randperm(len(images), generator=generator).split(batch_size):
            model.zero_grad()
            F.cross_entropy(model(images[index]), labels[index]).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(rate * parameter.grad)
    model.eval()


def main(
    *,
    n: int = 2000,
    epochs: tuple[int, int] = (12, 40),
    many: int = 3000,
    passes: int = 3,
    seeds: int = 3,
    name: str = "",
) -> None:
    """Run both experiments and store them as ``pooling``, ``pooling_long`` and ``bn_placement``.

    Args:
        n, epochs: images of the pooling experiment, and passes of its short and its long schedule.
        many, passes: the same for the placement of batch normalization.
        seeds: how many.
        name: put before the names of what is stored (a test uses its own).
    """
    images, labels = fashion_mnist()
    test_images, test_labels = fashion_mnist("test")
    runs = (
        ("pooling", partial(_pooling, SHORT), n, epochs[0]),
        ("pooling_long", partial(_pooling, tuple(DOWN)), n, epochs[1]),
        ("bn_placement", _placement, many, passes),
    )
    for title, run, size, rounds in runs:
        started = time.perf_counter()
        tensors: dict[str, Tensor] = {}
        table = run(images[:size], labels[:size], test_images, test_labels, rounds, seeds, tensors)
        seconds = round(time.perf_counter() - started)
        facts = {"images": size, "epochs": rounds, "seed": list(range(seeds)), "seconds": seconds, "metrics": table}
        weights.save(name + title, tensors, recipe="cvbook.recipes.pooling_normalization", **facts)


def _pooling(kinds, images, labels, test_images, test_labels, epochs, seeds, tensors) -> dict[str, list[list[float]]]:
    """``{kind: [[train accuracy, test accuracy] for each seed]}``."""
    table: dict[str, list[list[float]]] = {}
    for kind in kinds:
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = pooling_network(kind)
            fit(model, images, labels, epochs=epochs, seed=seed, batch_size=min(128, len(images)), progress=False)
            row = [accuracy(model, images, labels), accuracy(model, test_images, test_labels)]
            table.setdefault(kind, []).append(row)
            print(kind, seed, row, flush=True)
            if seed == 0:
                tensors.update({f"{kind}/{key}": value.half() for key, value in model.state_dict().items()})
    return table


def _placement(images, labels, test_images, test_labels, epochs, seeds, tensors) -> dict[str, list[float]]:
    """``{"place/rate": [test accuracy for each seed]}``."""
    table: dict[str, list[float]] = {}
    for rate in RATES:
        for place in PLACES:
            for seed in range(seeds):
                torch.manual_seed(seed)
                model = placement_network(place)
                descend(model, images, labels, rate=rate, epochs=epochs, batch_size=50, seed=seed)
                table.setdefault(f"{place}/{rate}", []).append(accuracy(model, test_images, test_labels))
                print(place, rate, seed, table[f"{place}/{rate}"][-1], flush=True)
                if seed == 0:
                    state = model.state_dict().items()
                    tensors.update({f"{place}/{rate}/{key}": v.half() for key, v in state if v.is_floating_point()})
    return table


if __name__ == "__main__":
    main()
