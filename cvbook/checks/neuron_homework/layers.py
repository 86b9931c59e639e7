"""Checks of the homework on neurons, exercise 1: a layer and a network."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.answers import Mistakes, called, explained, tensor
from cvbook.checks.verdict import equal, exercise

__all__ = ["layer", "network"]


@exercise("Exercise 1, a layer")
def layer(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(x, W, b)``: NumPy arrays (B, D), (K, D) and (K,); the outputs (B, K) of K ReLU neurons."""
    g = torch.Generator().manual_seed(seed)
    for B, D, K in ((5, 3, 4), (1, 4, 3), (3, 3, 3), (4, 1 + seed % 5, 2), (2, 5, 1)):
        x, W, b = _random(g, B, D), _random(g, K, D), _random(g, K)
        right = F.relu(F.linear(x, W, b))
        what = f"{B} inputs of {D} numbers and {K} neurons"
        rows = f"the shapes do not fit for {what}: a neuron's weights are a row of W, so x @ W.T"
        shaped = explained(answer, {"matmul": rows, "not aligned": rows})
        got = tensor(called(shaped, x=x.numpy(), W=W.numpy(), b=b.numpy()), what)
        zeros = got.shape == right.shape and not got.any()  # several mistakes may give them, so they name none
        equal(got, right, mistakes=None if zeros else _layer_mistakes(x, W, b), what=what)
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
    for widths in ((4, 6, 5, 3), (3, 7, 2 + seed % 5), (4, 3), (4, 4, 4, 4)):
        layers = [(_random(g, K, D), 0.5 * _random(g, K)) for D, K in itertools.pairwise(widths)]
        x = _random(g, 6, widths[0])
        arrays = [(W.numpy(), b.numpy()) for W, b in layers]
        what = f"a network of the widths {list(widths)}"
        got = tensor(called(explained(answer, CHAINED), x=x.numpy(), layers=arrays), what)
        equal(got, _run(x, layers), mistakes=_network_mistakes(x, layers), what=what)
    return "right: scores of either sign come out"


CHAINED = dict.fromkeys(
    ("core dimension", "not aligned", "must match the size of tensor", "cannot be multiplied", "be broadcast together"),
    "the shapes of two layers do not fit; each takes what the layer before it returns, in the order of the list",
)


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
