"""LeNet-5 with the parts of 1998 and with today's: four learning rates, three seeds.

Run: ``python -m cvbook.recipes.lenet`` (24 trainings, 8 s each on one free CPU core). It stores ``lenet``: the test
accuracy of every run, epoch by epoch.
"""

from __future__ import annotations

import functools
import time

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from cvbook import weights
from cvbook.cnns import lenet5
from cvbook.data import fashion_mnist
from cvbook.train import fit

__all__ = ["RATES", "best_rate", "main", "step_decay", "train"]

RATES = (0.02, 0.05, 0.1, 0.2)
COUNT, EPOCHS = 5_000, 8
Images = tuple[Tensor, Tensor]


def step_decay(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """Divide the rate by 10 after half and after three quarters of the steps."""
    return MultiStepLR(optimizer, [steps // 2, 3 * steps // 4], gamma=0.1)


def train(
    original: bool, rate: float, data: Images, test: Images, *, seed: int, epochs: int = EPOCHS
) -> tuple[nn.Module, dict[str, list[float]]]:
    """SGD with momentum and `step_decay` in batches of 64; the network and its history."""
    torch.manual_seed(seed)
    model = lenet5(original=original)
    history = fit(
        model, *data, epochs=epochs, batch_size=64, seed=seed, schedule=step_decay, validation=test, progress=False,
        optimizer=functools.partial(torch.optim.SGD, lr=rate, momentum=0.9),
    )  # fmt: skip
    return model, history


def best_rate(runs: dict[str, list[float]]) -> str:
    """The rate with the best mean accuracy.

    >>> best_rate({"0.1": [0.5, 0.7], "0.2": [0.1, 0.9]})
    '0.1'
    """
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


if __name__ == "__main__":
    main()
