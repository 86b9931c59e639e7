"""Checks of the homework on neurons, exercise 1: a layer, a network, and how wide it may be."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.checks.answers import Mistakes, called, number, tensor
from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["layer", "network", "widest"]

Layers = list[tuple[np.ndarray, np.ndarray]]


@exercise("Exercise 1, a layer")
def layer(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(x, W, b)``: NumPy arrays (B, D), (K, D) and (K,); the outputs (B, K) of K ReLU neurons."""
    g = torch.Generator().manual_seed(seed)
    for B, D, K in ((5, 3, 2), (1, 4, 3), (3, 3, 3), (4, 1 + seed, 2), (2, 5, 1)):
        x, W, b = _random(g, B, D), _random(g, K, D), _random(g, K)
        right = F.relu(F.linear(x, W, b))
        got = called(answer, x=x.numpy(), W=W.numpy(), b=b.numpy())
        what = f"{B} inputs of {D} numbers and {K} neurons"
        equal(tensor(got, what), right, mistakes=_layer_mistakes(x, W, b), what=what)
    return "right: any number of inputs, any number of neurons"


def _random(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64)


def _layer_mistakes(x: Tensor, W: Tensor, b: Tensor) -> Mistakes:
    z = x @ W.T
    return {
        "the bias is missing: each neuron adds its own": lambda: F.relu(z),
        "the activation comes before the bias; add b first": lambda: F.relu(z) + b,
        "the activation is missing: no output of ReLU is negative": lambda: z + b,
        "the bias is subtracted": lambda: F.relu(z - b),
        "the result is turned over: rows are inputs, columns are neurons, (B, K)": lambda: F.relu(z + b).T,
        "a neuron's weights are a row of W, not a column: use W.T": lambda: F.relu(x @ W + b),
        "the biases go to the inputs; each neuron has one, so b[k] belongs to column k": (
            lambda: F.relu(z + b[:, None])
        ),
        "axes of length 1 are lost: one input still gives (1, K), one neuron (B, 1)": lambda: F.relu(z + b).squeeze(),
        "this adds up over the whole batch; each row of x is an input of its own": lambda: F.relu(z.sum(0) + b),
        "all inputs are added up before the layer; each row of x is an input of its own": (
            lambda: F.relu(z.sum(0) + b).expand(len(x), -1)
        ),
        "this is the mean of the products; a neuron adds them up": lambda: F.relu(z / x.shape[1] + b),
        "the smallest and not the largest is taken: ReLU is the maximum with 0": lambda: (z + b).clamp(max=0),
    }


@exercise("Exercise 1, a network")
def network(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(x, layers)``: a list of pairs (W, b); ReLU between two layers, none after the last."""
    g = torch.Generator().manual_seed(seed)
    for widths in ((4, 6, 5, 3), (3, 7, 2 + seed), (4, 3), (4, 4, 4, 4)):
        layers = [(_random(g, K, D), 0.5 * _random(g, K)) for D, K in itertools.pairwise(widths)]
        x = _random(g, 6, widths[0])
        arrays = [(W.numpy(), b.numpy()) for W, b in layers]
        what = f"a network of the widths {list(widths)}"
        got = tensor(called(answer, x=x.numpy(), layers=arrays), what)
        equal(got, _run(x, layers), mistakes=_network_mistakes(x, layers), what=what)
    return "right: scores of either sign come out"


def _network_mistakes(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Mistakes:
    return {
        "no ReLU comes after the last layer: its scores may be negative": lambda: F.relu(_run(x, layers)),
        "the activation between the layers is missing": lambda: _run(x, layers, lambda z: z),
        "the biases are missing": lambda: _run(x, [(W, 0 * b) for W, b in layers]),
        "this is the first layer alone": lambda: F.relu(_run(x, layers[:1])),
        "this is the first layer alone, without its activation": lambda: _run(x, layers[:1]),
        "the last layer is left out": lambda: F.relu(_run(x, layers[:-1])),
        "the last layer is left out, and the activation before it": lambda: _run(x, layers[:-1]),
        "every layer reads x; a layer reads the outputs of the layer before": lambda: _run(x, layers[-1:]),
        "the layers are applied in reverse order": lambda: _run(x, layers[::-1]),
    }


def _run(x: Tensor, layers: list[tuple[Tensor, Tensor]], activation: Callable[[Tensor], Tensor] = F.relu) -> Tensor:
    for place, (W, b) in enumerate(layers):
        x = F.linear(x if place == 0 else activation(x), W, b)
    return x


@exercise("Exercise 1, the widest network")
def widest(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(budget, inputs, hidden, outputs)``: the largest width of ``hidden`` equal layers within the budget."""
    g = torch.Generator().manual_seed(seed)
    cases = []
    for hidden in (1, 2, 3, 5, 1, 4):
        budget, inputs, outputs = (int(torch.randint(*ends, (), generator=g)) for ends in BUDGETS)
        cases.append((budget, inputs, hidden, outputs))
    for hidden in (1, 2, 3, 1, 2, 3, 2, 1):  # small networks, in which every bias counts
        budget, inputs, outputs = (int(torch.randint(*ends, (), generator=g)) for ends in ((60, 400), (2, 9), (2, 5)))
        cases.append((budget, inputs, hidden, outputs))
    for hidden, more in ((2, 0), (3, -1), (1, 0)):  # just enough for a width, and one parameter too few
        width, inputs, outputs = (int(torch.randint(*ends, (), generator=g)) for ends in ((9, 60), (5, 99), (2, 9)))
        cases.append((_counted(width, inputs, hidden, outputs) + more, inputs, hidden, outputs))
    got = [_whole(called(answer, budget=p, inputs=i, hidden=n, outputs=o)) for p, i, n, o in cases]
    right = [_largest(lambda w, c=case: _counted(w, *c[1:]), case[0]) for case in cases]  # type: ignore[misc]
    if got == right:
        return f"right, for {len(cases)} budgets"
    for sentence, count in WIDTH_MISTAKES.items():
        if got == [_largest(lambda w, c=case, f=count: f(w, *c[1:]), case[0]) for case in cases]:  # type: ignore[misc]
            raise Wrong(sentence)
    if got == [w + 1 for w in right]:
        raise Wrong("this is the first width that is too wide; return the one before it")
    if got == [w - 1 for w in right]:
        raise Wrong("one unit more in each layer still fits")
    if all(g == r - (_counted(r, *case[1:]) == case[0]) for g, r, case in zip(got, right, cases, strict=True)):
        raise Wrong("a network that uses up the budget exactly is within it: compare with <=")
    (p, i, n, o), g_, r = next((c, g, r) for c, g, r in zip(cases, got, right, strict=True) if g != r)
    raise Wrong(f"for {p} parameters, {i} inputs, {n} hidden layers and {o} outputs, expected {r}, got {g_:g}")


BUDGETS = ((4_000, 90_000), (20, 800), (2, 20))  # budget, inputs, outputs: from, to (excluded)

WIDTH_MISTAKES: dict[str, Callable[[int, int, int, int], int]] = {
    "the biases are missing: one for each neuron": lambda w, i, n, o: w * i + (n - 1) * w * w + w * o,
    "the output layer is forgotten": lambda w, i, n, o: w * (i + 1) + (n - 1) * w * (w + 1),
    "the input width is used again: a later layer's inputs are the outputs of the layer before": (
        lambda w, i, n, o: n * w * (i + 1) + o * (w + 1)
    ),
    "the input width is used again, in the output layer": (
        lambda w, i, n, o: w * (i + 1) + (n - 1) * w * (w + 1) + o * (i + 1)
    ),
    "this counts one hidden layer too many: n hidden layers have n - 1 connections among themselves": (
        lambda w, i, n, o: w * (i + 1) + n * w * (w + 1) + o * (w + 1)
    ),
    "this counts one hidden layer, however many there are": lambda w, i, n, o: w * (i + 1) + o * (w + 1),
    "one bias for each layer is counted; there is one for each neuron": (
        lambda w, i, n, o: w * i + (n - 1) * w * w + w * o + n + 1
    ),
    "the biases of the output layer are missing": lambda w, i, n, o: w * (i + 1) + (n - 1) * w * (w + 1) + o * w,
}


def _counted(width: int, inputs: int, hidden: int, outputs: int) -> int:
    """Parameters of the real thing; on "meta" nothing is stored."""
    widths = [inputs, *hidden * [width], outputs]
    layers = [nn.Linear(D, K, device="meta") for D, K in itertools.pairwise(widths)]
    return sum(parameter.numel() for one in layers for parameter in one.parameters())


def _largest(count: Callable[[int], int], budget: int) -> int:
    """The largest width whose count is within the budget, by bisection."""
    low, high = 0, budget
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(middle) <= budget else (low, middle - 1)
    return low


def _whole(value: Any) -> float:
    width = number(value, "the width")
    if width != round(width):
        raise Wrong(f"a width is a whole number, got {width:.5g}; what does not fill a unit is left over")
    return width
