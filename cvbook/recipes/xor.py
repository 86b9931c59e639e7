"""Many small networks at once, for the lesson "Perceptron, XOR and the multilayer perceptron" (minutes on two cores).

``python -m cvbook.recipes.xor`` trains 200 networks of each kind on XOR and 10 of each width on a curve, and stores how
many succeeded, how far off they are, and the narrowest networks themselves.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook import weights

PIXELS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR = torch.tensor([0.0, 1.0, 1.0, 0.0])
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "ReLU": torch.relu}
WIDTHS = (2, 3, 4, 8, 16)
CURVE_WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
Parameters = dict[str, Tensor]


def initial(nets: int, inputs: int, hidden: int, *, seed: int) -> Parameters:
    """Weights and biases as `torch.nn.Linear` draws them, uniform within 1 / sqrt(fan in), for all networks."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {}
    for layer, fan_in, fan_out in (("hidden", inputs, hidden), ("output", hidden, 1)):
        for kind, rows in (("weight", fan_in), ("bias", 1)):
            drawn = 2 * torch.rand(nets, rows, fan_out, generator=generator) - 1
            parameters[f"{layer}.{kind}"] = drawn / math.sqrt(fan_in)
    return parameters


def forward(parameters: Parameters, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Outputs ``(nets, N)`` of all networks for inputs ``(N, D)``."""
    hidden = activation(x @ parameters["hidden.weight"] + parameters["hidden.bias"])  # (nets, N, hidden)
    return (hidden @ parameters["output.weight"] + parameters["output.bias"]).squeeze(-1)


def train(
    parameters: Parameters,
    x: Tensor,
    y: Tensor,
    activation: Callable[[Tensor], Tensor],
    *,
    loss: Callable[..., Tensor] = F.binary_cross_entropy_with_logits,
    steps: int = 3000,
    lr: float = 0.05,
    decay: bool = False,
) -> Parameters:
    """All networks trained by Adam on all examples in each step, at a rate that stays or falls to 0 along a cosine.

    No network feels the others: the losses are added, so each gets its own gradient, and Adam works number by number.
    """
    parameters = {name: value.clone().requires_grad_() for name, value in parameters.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=lr)
    for step in range(steps):
        if decay:
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        outputs = forward(parameters, x, activation)
        value = loss(outputs, y.expand_as(outputs), reduction="none").mean(1).sum()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return {name: value.detach() for name, value in parameters.items()}


def right_answers(parameters: Parameters, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """How many of the four answers of each network are right, ``(nets,)``."""
    return ((forward(parameters, PIXELS, activation) > 0) == (XOR > 0)).sum(1)


def curve() -> tuple[Tensor, Tensor]:
    """201 points of sin(2 x) from -pi to pi: inputs ``(201, 1)`` and values ``(201,)``."""
    x = torch.linspace(-math.pi, math.pi, 201)[:, None]
    return x, torch.sin(2 * x[:, 0])


def main(*, nets: int = 200, steps: int = 3000, fits: int = 10, widths: tuple[int, ...] = CURVE_WIDTHS) -> None:
    """Run everything and store it as ``xor``.

    Args:
        nets, steps: networks of each kind and training steps; for width 2 also with a tenth and four times the rate,
            and with ten times the steps.
        fits, widths: networks of each width fitted to the curve, and the widths; the last one also with a falling rate.
    """
    started = time.perf_counter()
    solved: dict[str, dict[str, float]] = {}
    stored: Parameters = {}
    runs = [("standard", width, 0.05, steps) for width in WIDTHS]
    runs += [("slow", 2, 0.005, steps), ("fast", 2, 0.2, steps), ("long", 2, 0.05, 10 * steps)]
    for (way, width, lr, length), name in itertools.product(runs, ACTIVATIONS):
        result = train(initial(nets, 2, width, seed=0), PIXELS, XOR, ACTIVATIONS[name], steps=length, lr=lr)
        right = right_answers(result, ACTIVATIONS[name])
        solved.setdefault(f"{way}/{width}", {})[name] = float((right == 4).float().mean())
        print(way, width, name, right.bincount(minlength=5).tolist(), flush=True)
        if (way, width) == ("standard", 2):
            stored |= {f"{name}/{key}": value for key, value in result.items()}
    x, y = curve()
    errors = {}
    for width, decay in [*((width, False) for width in widths), (widths[-1], True)]:
        start, key = initial(fits, 1, width, seed=0), f"{width}{'/decay' if decay else ''}"
        result = train(start, x, y, torch.tanh, loss=F.mse_loss, steps=steps, lr=0.01, decay=decay)
        errors[key] = (forward(result, x, torch.tanh) - y).square().mean(1).sqrt().tolist()
        print("curve", key, [round(e, 4) for e in errors[key]], flush=True)
    metrics = {"solved": solved, "curve": errors}
    facts = {"nets": nets, "steps": steps, "seed": 0, "seconds": round(time.perf_counter() - started)}
    weights.save("xor", stored, recipe="cvbook.recipes.xor", metrics=metrics, **facts)


if __name__ == "__main__":
    main()
