"""Exercises 1 and 2 of the homework: plausible wrong answers are told their mistake."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cvbook.checks import neuron_homework as checks
from cvbook.checks.neuron_homework import layers, losses


def relu(z: Any) -> Any:
    return np.maximum(z, 0)


def run(x: Any, pairs: Any, between: Callable[[Any], Any] = relu, last: Callable[[Any], Any] = lambda z: z) -> Any:
    for number, (W, b) in enumerate(pairs, 1):
        x = x @ W.T + b
        x = last(x) if number == len(pairs) else between(x)
    return x


def shares(z: Any, mask: Any, dim: int, largest: Callable[[Any], Any]) -> Any:
    z = z.masked_fill(~mask, -math.inf)
    e = (z - largest(z)).exp()
    return e / e.sum(dim, keepdim=True)


def softmax(z: Any, dim: int) -> Any:
    return z.exp() / z.exp().sum(dim, keepdim=True)


def own(z: Any, y: Any) -> Any:
    return softmax(z, 1)[torch.arange(len(z)), y]


def hot(z: Any, y: Any) -> Any:
    return F.one_hot(y, z.shape[1])


def square(z: Any, y: Any, how: Callable[[Any, Any], Any]) -> Any:
    p = torch.softmax(z, 1)
    return how(p, p - hot(z, y))


def one_of_all(z: Any, y: Any) -> Any:
    p = softmax(z, 1)
    p[:, y] -= 1
    return p / len(z)


def bracket(z: Any, y: Any, sign: int) -> Any:
    d = softmax(z, 1) - hot(z, y)
    return (d + sign * (softmax(z, 1) * d).sum(1, keepdim=True)) / len(z)


# check, answer, part of the message that names the mistake
MISTAKES: list[tuple[str, Any, str]] = [
    ("layer", lambda x, W, b: relu(x @ W.T), "bias is missing"),
    ("network", lambda x, layers: [relu(x @ W.T + b) for W, b in layers][-1], "takes what the layer before it returns"),
    ("masked_softmax", lambda z, m, dim: z.exp() * m / (z.exp() * m).sum(dim), "keepdim=True"),
    (
        "cross_entropy",
        lambda z, y: ((z - z.amax(1, keepdim=True)).exp().sum(1).log() - z[range(len(z)), y]).mean(),
        "not added again",
    ),
    ("squared_gradient", lambda z, y: bracket(z, y, 1) * softmax(z, 1), "has the wrong sign"),
    ("squared_gradient", lambda z, y: bracket(z, y, -1), "in front of the bracket is missing"),
    ("layer", lambda x, W, b: relu(x @ W.T) + b, "activation comes before the bias"),
    ("layer", lambda x, W, b: x @ W.T + b, "activation is missing"),
    ("layer", lambda x, W, b: relu(x @ W.T - b), "bias is subtracted"),
    ("layer", lambda x, W, b: relu(x @ W.T + b).T, "turned over"),
    ("layer", lambda x, W, b: relu((x @ W.T).sum(0) + b), "over the whole batch"),
    ("layer", lambda x, W, b: relu(x @ W.T + b).squeeze(), "axes of length 1 are lost"),
    ("layer", lambda x, W, b: relu(x @ (W if x.shape[1] == len(W) else W.T) + b), "not a column: use W.T"),
    ("layer", lambda x, W, b: relu((x[:, None] * W).mean(2) + b), "mean of the products"),
    ("layer", lambda x, W, b: np.minimum(x @ W.T + b, 0), "smallest and not the largest"),
    ("layer", lambda x, W, b: np.zeros((len(x), len(b))), "everything is zero"),
    ("network", lambda x, pairs: run(x, pairs, last=relu), "no ReLU comes after the last layer"),
    ("network", lambda x, pairs: run(x, pairs, between=lambda z: z), "between the layers is missing"),
    ("network", lambda x, pairs: run(x, [(W, 0) for W, _ in pairs]), "biases are missing"),
    ("network", lambda x, pairs: run(x, pairs[:1]), "first layer alone"),
    ("network", lambda x, pairs: run(x, pairs[:-1], last=relu), "last layer is left out"),
    ("masked_softmax", lambda z, mask, dim: softmax(z, dim), "mask is ignored"),
    ("masked_softmax", lambda z, mask, dim: softmax(z, dim) * mask, "does not add up to 1"),
    ("masked_softmax", lambda z, mask, dim: softmax(z * mask, dim), "exp(0) = 1"),
    ("masked_softmax", lambda z, mask, dim: softmax(z.masked_fill(mask, -math.inf), dim), "turned around"),
    ("masked_softmax", lambda z, mask, dim: softmax(z.masked_fill(~mask, -math.inf), -1), "along the last axis always"),
    ("masked_softmax", lambda z, mask, dim: z.exp() * mask / (z.exp() * mask).sum(), "sum over everything"),
    ("masked_softmax", lambda z, mask, dim: z.exp() * mask, "not divided by their sum"),
    ("masked_softmax_far", lambda z, mask, dim: softmax(z.masked_fill(~mask, -math.inf), dim), "exp overflows"),
    (
        "masked_softmax_far",
        lambda z, m, d: shares(z.masked_fill(~m, -1e4), m | True, d, lambda z: z.amax(d, True)),
        "a possible score, too",
    ),
    (
        "cross_entropy",
        lambda z, y: -(shares(z, z == z, 1, lambda z: z.amax(1, True))[torch.arange(len(y)), y] + 1e-12).log().mean(),
        "caps the loss",
    ),
    ("layer", lambda x, W, b: relu(x @ W + b), "so x @ W.T"),
    ("masked_softmax_far", lambda z, m, dim: shares(z, m, dim, lambda z: z.max()), "needs its own largest score"),
    (
        "masked_softmax_far",
        lambda z, m, dim: shares(z, m, dim, lambda s: z.amax(dim, keepdim=True)),
        "sought among those that take part",
    ),
    (
        "masked_softmax_far",
        lambda z, m, dim: shares(z, m, dim, lambda s: (z * m).sum(dim, keepdim=True) / m.sum(dim, keepdim=True)),
        "not the mean or the smallest",
    ),
    ("cross_entropy", lambda z, y: own(z, y).log().mean(), "sign is wrong"),
    ("cross_entropy", lambda z, y: -own(z, y).log().sum(), "sum over the images"),
    ("cross_entropy", lambda z, y: -own(z, y).log(), "one loss for each image"),
    ("cross_entropy", lambda z, y: -own(z, y).log().mean() / z.shape[1], "also taken over the classes"),
    ("cross_entropy", lambda z, y: -own(softmax(z, 1), y).log().mean(), "softmax is applied twice"),
    ("cross_entropy", lambda z, y: (1 - own(z, y)).mean(), "logarithm is missing"),
    ("cross_entropy", lambda z, y: -own(z, y).log2().mean(), "base 2"),
    ("cross_entropy", lambda z, y: -own(z, y).log().mean(), "scores near 10 000"),
    ("cross_entropy", lambda z, y: -own(z - z.max(), y).log().mean(), "each needs its own largest"),
    ("cross_entropy", lambda z, y: -own(z - z.amax(1, keepdim=True), y).log().mean(), "never form the share"),
    ("cross_entropy", lambda z, y: -softmax(z, 1)[:, y].log().mean(), "p[:, labels] takes all labels"),
    ("cross_entropy", lambda z, y: -softmax(z, 0)[torch.arange(len(z)), y].log().mean(), "the classes are axis 1"),
    (
        "cross_entropy",
        lambda z, y: (z - z[torch.arange(len(z)), y][:, None]).exp().sum(1).log().mean(),
        "exp of the lead overflows",
    ),
    ("cross_entropy_gradient", one_of_all, "p[:, labels] changes all labels"),
    ("cross_entropy_gradient", lambda z, y: (softmax(z, 0) - hot(z, y)) / len(z), "the classes are axis 1"),
    ("cross_entropy_gradient", lambda z, y: (hot(z, y) - softmax(z, 1)) / len(z), "sign is wrong"),
    ("cross_entropy_gradient", lambda z, y: softmax(z, 1) - hot(z, y), "each image counts 1/B"),
    ("cross_entropy_gradient", lambda z, y: (softmax(z, 1) - hot(z, y)) / z.numel(), "number of classes as well"),
    ("cross_entropy_gradient", lambda z, y: (softmax(z, 1) - hot(z, y)) / z.shape[1], "mean is over the images"),
    ("cross_entropy_gradient", lambda z, y: softmax(z, 1) / len(z), "the label is missing"),
    ("cross_entropy_gradient", lambda z, y: 2 * (softmax(z, 1) - hot(z, y)) / len(z), "factor 2 too many"),
    ("cross_entropy_gradient", lambda z, y: (z - hot(z, y)) / len(z), "apply softmax first"),
    (
        "cross_entropy_gradient",
        lambda z, y: (softmax(z, 1) - hot(z, y)) * softmax(z, 1) * (1 - softmax(z, 1)) / len(z),
        "cancels against the slope of the logarithm",
    ),
    ("squared_gradient", lambda z, y: square(z, y, lambda p, d: d / len(z)), "slope of softmax is missing: p - y"),
    ("squared_gradient", lambda z, y: square(z, y, lambda p, d: d * p * (1 - p) / len(z)), "matrix of slopes"),
    (
        "squared_gradient",
        lambda z, y: square(z, y, lambda p, d: 2 * p * (d - (p * d).sum(1, keepdim=True)) / len(z)),
        "factor 2 too many",
    ),
    (
        "squared_gradient",
        lambda z, y: square(z, y, lambda p, d: p * ((p * d).sum(1, keepdim=True) - d) / len(z)),
        "sign is wrong",
    ),
    (
        "squared_gradient",
        lambda z, y: square(z, y, lambda p, d: p * (d - (p * d).sum(1, keepdim=True))),
        "each image counts 1/B",
    ),
    ("squared_gradient", lambda z, y: square(z, y, lambda p, d: p * d / len(z)), "only the first term"),
    (
        "squared_gradient",
        lambda z, y: square(z, y, lambda p, d: p * (d - (p * d).sum(0)) / len(z)),
        "belongs to the classes of one image",
    ),
]


@pytest.mark.parametrize(("check", "answer", "message"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(check: str, answer: Any, message: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("check", [*layers.__all__, *losses.__all__])
def test_every_check_knows_four_mistakes(check: str) -> None:
    assert len({message for name, _, message in MISTAKES if name == check}) >= 4


def test_an_unknown_mistake_is_shown_by_an_example() -> None:
    message = checks.layer(lambda x, W, b: relu(x @ W.T + b) + 3).message
    assert message.startswith("for 5 inputs of 3 numbers and 4 neurons, expected ")


@pytest.mark.parametrize("h", [1e-6])
def test_the_gradients_are_those_that_nudging_finds(h: float) -> None:
    g = torch.Generator().manual_seed(4)
    z, y = torch.randn(3, 4, generator=g, dtype=torch.float64), torch.tensor([0, 3, 1])

    def half_square(z: Any, y: Any) -> Any:
        return 0.5 * (torch.softmax(z, 1) - hot(z, y)).square().sum(1).mean()

    for check, loss in ((checks.cross_entropy_gradient, F.cross_entropy), (checks.squared_gradient, half_square)):

        def nudged(z: Any, y: Any, loss: Any = loss) -> Any:
            slopes = torch.zeros_like(z)
            for i, j in itertools.product(*map(range, z.shape)):
                step = torch.zeros_like(z)
                step[i, j] = h
                slopes[i, j] = (loss(z + step, y) - loss(z - step, y)) / (2 * h)
            return slopes

        assert nudged(z, y).abs().sum() > 0
        assert check(nudged).passed
