"""How many steps until the training error falls to 20 %: ReLU against tanh, five learning rates, three seeds.

The experiment of Krizhevsky et al. 2012 (https://doi.org/10.1145/3065386, figure 1), small: four layers,
Fashion-MNIST in place of CIFAR-10, no regularization, each activation with the initialization made for it.

Run: ``python -m cvbook.recipes.relu_race`` (30 trainings, 5 s each on one free CPU core). It stores ``relu_race``: the
running training error of every run, step by step.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook import weights
from cvbook.data import fashion_mnist

__all__ = ["GOAL", "RATES", "main", "network", "race", "steps_to"]

RATES = (0.003, 0.01, 0.03, 0.1, 0.2)
GOAL = 0.20  # training error
STEPS, BATCH, WINDOW = 500, 128, 25  # the error is a mean over the last 25 batches


def network(activation: str, *, seed: int) -> nn.Sequential:
    """Two convolutions and two linear layers; He initialization for ``"relu"``, Glorot for ``"tanh"``.

    Raises:
        ValueError: for another activation.
    """
    if activation not in ("relu", "tanh"):
        raise ValueError(f"expected 'relu' or 'tanh', got {activation!r}")
    torch.manual_seed(seed)
    act = {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), act(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5, padding=2), act(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 64), act(), nn.Linear(64, 10),
    )  # fmt: skip
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if activation == "relu":
                nn.init.kaiming_normal_(layer.weight)
            else:
                nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model


def race(activation: str, rate: float, images: Tensor, labels: Tensor, *, seed: int, steps: int = STEPS) -> Tensor:
    """Train with SGD and momentum 0.9; the running training error ``(steps,)``, each batch judged before its step.

    Raises:
        ValueError: without images or steps.
    """
    if not len(images) or steps < 1:
        raise ValueError(f"expected images and at least one step, got {len(images)} images and {steps} steps")
    model = network(activation, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    errors = torch.ones(WINDOW - 1 + steps)  # before the start every answer counts as wrong
    for step in range(steps):
        index = torch.randint(len(images), (BATCH,), generator=generator)
        logits = model(images[index])
        errors[WINDOW - 1 + step] = (logits.argmax(1) != labels[index]).float().mean()
        optimizer.zero_grad()
        F.cross_entropy(logits, labels[index]).backward()
        optimizer.step()
    return errors.unfold(0, WINDOW, 1).mean(1)


def steps_to(errors: Tensor, goal: float = GOAL) -> int | None:
    """The first step at which the running error is at most the goal; None if it never is.

    >>> steps_to(torch.tensor([0.9, 0.4, 0.2, 0.1])), steps_to(torch.tensor([0.9, 0.4]))
    (3, None)
    """
    reached = (errors <= goal).nonzero()
    return int(reached[0]) + 1 if len(reached) else None


def main(*, steps: int = STEPS, seeds: int = 3, rates: tuple[float, ...] = RATES) -> None:
    """Run all races and store them; the arguments shrink the job for tests."""
    images, labels = fashion_mnist("train")
    started = time.perf_counter()
    curves: dict[str, Tensor] = {}
    table: dict[str, dict[str, list[int | None]]] = {}
    for activation in ("relu", "tanh"):
        table[activation] = {}
        for rate in rates:
            runs = [race(activation, rate, images, labels, seed=seed, steps=steps) for seed in range(seeds)]
            curves[f"{activation}/{rate}"] = torch.stack(runs)
            table[activation][str(rate)] = [steps_to(run) for run in runs]
            print(activation, rate, table[activation][str(rate)], round(time.perf_counter() - started), flush=True)
    weights.save(
        "relu_race", curves, recipe="cvbook.recipes.relu_race", seed=list(range(seeds)), batch_size=BATCH,
        seconds=round(time.perf_counter() - started), metrics=table,
    )  # fmt: skip


if __name__ == "__main__":
    main()
