"""LeNet-5 with the parts of 1998 and with today's: four learning rates, three seeds.

Run: ``python -m cvbook.recipes.lenet`` (24 trainings, 8 s each on one free CPU core). It stores ``lenet``: the test
accuracy of every run, epoch by epoch. ``python -m cvbook.recipes.lenet mixtures`` trains the two mixtures of old and
new parts at rate 0.1 (6 trainings) and stores ``lenet_mixtures``; ``... deaths`` counts dead maps of today's variant
before and after training at two rates (6 trainings) and stores ``lenet_dead``.
"""

from __future__ import annotations

import functools
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from cvbook import weights
from cvbook.cnns import lenet5
from cvbook.cnns.lenet import LeNet5
from cvbook.data import fashion_mnist
from cvbook.train import fit

__all__ = ["MIXTURES", "RATES", "best_rate", "dead_maps", "deaths", "main", "mixtures", "step_decay", "train"]

RATES = (0.02, 0.05, 0.1, 0.2)
MIXTURES = {"tanh, maximum": (True, nn.MaxPool2d), "ReLU, average": (False, nn.AvgPool2d)}
COUNT, EPOCHS = 5_000, 8
Images = tuple[Tensor, Tensor]


def step_decay(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """Divide the rate by 10 after half and after three quarters of the steps."""
    return MultiStepLR(optimizer, [steps // 2, 3 * steps // 4], gamma=0.1)


def train(
    original: bool, rate: float, data: Images, test: Images, *, seed: int, epochs: int = EPOCHS,
    pool: type[nn.Module] | None = None,
) -> tuple[LeNet5, dict[str, list[float]]]:  # fmt: skip
    """SGD with momentum and `step_decay` in batches of 64; the network and its history.

    ``pool`` takes the place of both poolings; the first weights do not depend on it.
    """
    torch.manual_seed(seed)
    model = lenet5(original=original)
    if pool is not None:
        model.features[2], model.features[5] = pool(2), pool(2)
    history = fit(
        model, *data, epochs=epochs, batch_size=64, seed=seed, schedule=step_decay, validation=test, progress=False,
        optimizer=functools.partial(torch.optim.SGD, lr=rate, momentum=0.9),
    )  # fmt: skip
    return model, history


def best_rate(runs: dict[str, list[float]]) -> str:
    """The rate with the best mean accuracy.

    Raises:
        ValueError: without runs, or if an accuracy is not a number.

    >>> best_rate({"0.1": [0.5, 0.7], "0.2": [0.1, 0.9]})
    '0.1'
    """
    if not runs or any(not found or any(value != value for value in found) for found in runs.values()):
        raise ValueError(f"expected accuracies for at least one rate, got {runs}")
    return max(runs, key=lambda rate: sum(runs[rate]) / len(runs[rate]))


def main(*, count: int = COUNT, epochs: int = EPOCHS, seeds: int = 3, rates: tuple[float, ...] = RATES) -> None:
    """Train, measure and store; the arguments shrink the job for tests."""
    images, labels = fashion_mnist("train")
    test = fashion_mnist("test")
    started = time.perf_counter()
    curves: dict[str, Tensor] = {}
    final: dict[str, dict[str, list[float]]] = {}
    for name in ("1998", "today"):
        final[name] = {}
        for rate in rates:
            runs = [
                train(name == "1998", rate, (images[:count], labels[:count]), test, seed=seed, epochs=epochs)[1]
                for seed in range(seeds)
            ]
            curves[f"{name}/{rate}"] = torch.tensor([run["accuracy"] for run in runs])
            final[name][str(rate)] = [run["accuracy"][-1] for run in runs]
            print(name, rate, final[name][str(rate)], round(time.perf_counter() - started), flush=True)
    weights.save(
        "lenet", curves, recipe="cvbook.recipes.lenet", seed=list(range(seeds)), images=count, epochs=epochs,
        seconds=round(time.perf_counter() - started), metrics=final,
    )  # fmt: skip


def mixtures(*, count: int = COUNT, epochs: int = EPOCHS, seeds: int = 3, rate: float = 0.1) -> None:
    """Train both mixtures and store them; the arguments shrink the job for tests."""
    images, labels = fashion_mnist("train")
    test = fashion_mnist("test")
    started = time.perf_counter()
    curves: dict[str, Tensor] = {}
    for name, (original, pool) in MIXTURES.items():
        runs = [
            train(original, rate, (images[:count], labels[:count]), test, seed=seed, epochs=epochs, pool=pool)[1]
            for seed in range(seeds)
        ]
        curves[name] = torch.tensor([run["accuracy"] for run in runs])
        print(name, curves[name][:, -1].tolist(), round(time.perf_counter() - started), flush=True)
    weights.save(
        "lenet_mixtures", curves, recipe="cvbook.recipes.lenet", seed=list(range(seeds)), images=count, epochs=epochs,
        rate=rate, seconds=round(time.perf_counter() - started),
        metrics={name: [round(value, 4) for value in curve[:, -1].tolist()] for name, curve in curves.items()},
    )  # fmt: skip


@torch.no_grad()
def dead_maps(model: LeNet5, images: Tensor) -> list[int]:
    """How many maps of C1 and of C3 are zero at every pixel of all images ``(B, 1, 28, 28)``, behind the activation.

    >>> dead_maps(lenet5(), torch.rand(2, 1, 28, 28))[1] <= 16
    True
    """
    x, counts = F.pad(images, (2, 2, 2, 2)), []
    for i, layer in enumerate(model.features):
        x = layer(x)
        if i in (1, 4):
            counts.append(int((x.amax((0, 2, 3)) == 0).sum()))
    return counts


def deaths(*, count: int = COUNT, epochs: int = EPOCHS, seeds: int = 3, rates: tuple[float, ...] = (0.1, 0.2)) -> None:
    """Count dead maps of the ReLU network before and after training and store them; arguments shrink it for tests."""
    images, labels = fashion_mnist("train")
    test = fashion_mnist("test")
    started = time.perf_counter()
    found: dict[str, list[dict[str, list[int]]]] = {}
    for rate in rates:
        found[str(rate)] = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            before = dead_maps(lenet5(), test[0])
            model, _ = train(False, rate, (images[:count], labels[:count]), test, seed=seed, epochs=epochs)
            found[str(rate)].append({"before": before, "after": dead_maps(model, test[0])})
        print(rate, found[str(rate)], round(time.perf_counter() - started), flush=True)
    counts = {rate: torch.tensor([[run["before"], run["after"]] for run in runs]) for rate, runs in found.items()}
    weights.save(
        "lenet_dead", counts, recipe="cvbook.recipes.lenet", seed=list(range(seeds)), images=count, epochs=epochs,
        seconds=round(time.perf_counter() - started), metrics=found,
    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:] == ["mixtures"]:
        mixtures()
    elif sys.argv[1:] == ["deaths"]:
        deaths()
    else:
        main()
