"""Exercises 5, 6 and 7 of the homework: plausible wrong answers are told their mistake."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cvbook.checks import neuron_homework as checks
from cvbook.checks.neuron_homework import activations, shifts, spread


def prelu(dz: Any = None, da: Any = None) -> Callable[..., Any]:
    def answer(z: Any, a: Any, dy: Any) -> Any:
        right_dz, right_da = dy * torch.where(z > 0, 1.0, a), (dy * z * (z < 0)).sum(0)
        return (dz(z, a, dy) if dz else right_dz), (da(z, a, dy) if da else right_da)

    return answer


def swish(dz: Any = None, dbeta: Any = None) -> Callable[..., Any]:
    """``dz`` and ``dbeta`` take z, β, dy and s."""

    def answer(z: Any, beta: float, dy: Any) -> Any:
        s = torch.sigmoid(beta * z)
        right_dz, right_dbeta = dy * (s + beta * z * s * (1 - s)), (dy * z**2 * s * (1 - s)).sum()
        return (dz(z, beta, dy, s) if dz else right_dz), (dbeta(z, beta, dy, s) if dbeta else right_dbeta)

    return answer


def mean(f: Callable[[Any], Any], phi: Any) -> float:
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    weights = torch.exp(-(z**2) / 2)
    return float((f(phi(z)) * weights).sum() / weights.sum())


def m(phi: Any) -> float:
    return mean(torch.square, phi)


def push(images: Any, down: int, right: int) -> Any:
    return F.pad(images, (right, -right, down, -down))


def sliced(images: Any, down: int, right: int) -> Any:
    """Slices that end at -0 are empty."""
    result = torch.zeros_like(images)
    try:
        result[:, :, down:, right:] = images[:, :, :-down, :-right]
    except RuntimeError:
        return push(images, down, right) if down and right else result
    return result if down > 0 and right > 0 else push(images, down, right) if down and right else result * 0


def moved_on(predict: Any, images: Any, labels: Any, reach: int) -> Any:
    """The images of each shift are moved on in the next."""
    rows = []
    for i in range(-reach, reach + 1):
        rows.append([])
        for j in range(-reach, reach + 1):
            images = push(images, i, j)
            rows[-1].append(100 * (predict(images) == labels).double().mean())
    return torch.tensor(rows)


def mapped(change: Callable[[Any], Any] = lambda x: x, move: Any = push, ways: Any = None) -> Callable[..., Any]:
    def answer(predict: Any, images: Any, labels: Any, reach: int) -> Any:
        steps = ways(reach) if ways else range(-reach, reach + 1)
        hits = [[(predict(move(images, i, j)) == labels).double().mean() for j in steps] for i in steps]
        return change(100 * torch.tensor(hits))

    return answer


# check, answer, part of the message that names the mistake
MISTAKES: list[tuple[str, Any, str]] = [
    ("prelu_input", prelu(lambda z, a, dy: dy * torch.where(z > 0, a, 1.0)), "on the positive side"),
    ("prelu_input", prelu(lambda z, a, dy: dy * (z > 0)), "this is ReLU"),
    ("prelu_input", prelu(lambda z, a, dy: dy * torch.where(z > 0, 1.0, a * z)), "the slope is a, not a z"),
    ("prelu_input", prelu(lambda z, a, dy: torch.where(z > 0, 1.0, a)), "multiply by dy"),
    ("prelu_input", prelu(lambda z, a, dy: dy * F.prelu(z, a)), "PReLU itself"),
    ("prelu_input", lambda z, a, dy: ((dy * z.clamp(max=0)).sum(0), dy * torch.where(z > 0, 1.0, a)), "are exchanged"),
    ("prelu_slope", prelu(da=lambda z, a, dy: dy * z * (z < 0)), "add the shares up over the batch"),
    ("prelu_slope", prelu(da=lambda z, a, dy: (dy * z * (z < 0)).mean(0)), "averaged over the batch"),
    ("prelu_slope", prelu(da=lambda z, a, dy: (dy * z * (z < 0)).sum()), "this is one number"),
    ("prelu_slope", prelu(da=lambda z, a, dy: (dy * z).sum(0)), "positive sums do not use a"),
    ("prelu_slope", prelu(da=lambda z, a, dy: (dy * z * (z > 0)).sum(0)), "the wrong half"),
    ("prelu_slope", prelu(da=lambda z, a, dy: (z * (z < 0)).sum(0)), "dy, is missing"),
    ("prelu_slope", prelu(da=lambda z, a, dy: (a * dy * (z < 0)).sum(0)), "by z it would be a"),
    ("swish", swish(lambda z, b, dy, s: dy * (s + z * s * (1 - s))), "chain rule brings a factor beta"),
    ("swish", swish(lambda z, b, dy, s: dy * s), "only the first term"),
    ("swish", swish(lambda z, b, dy, s: dy * b * z * s * (1 - s)), "only the second term"),
    (
        "swish",
        swish(lambda z, b, dy, s: dy * (s + b * z * torch.sigmoid(s) * (1 - torch.sigmoid(s)))),
        "sigmoid is applied twice",
    ),
    ("swish", swish(lambda z, b, dy, s: dy * (s + b * z * (1 - s**2))), "belongs to tanh"),
    (
        "swish",
        swish(lambda z, b, dy, s: dy * torch.sigmoid(z) * (1 + z * (1 - torch.sigmoid(z)))),
        "beta is ignored",
    ),
    ("swish", swish(lambda z, b, dy, s: s + b * z * s * (1 - s)), "multiply by dy"),
    ("swish", swish(dbeta=lambda z, b, dy, s: (dy * z * s * (1 - s)).sum()), "z occurs twice"),
    ("swish", swish(dbeta=lambda z, b, dy, s: dy * z**2 * s * (1 - s)), "one number for all"),
    ("swish", swish(dbeta=lambda z, b, dy, s: (dy * z**2 * s * (1 - s)).mean()), "averaged; add them up"),
    ("swish", swish(dbeta=lambda z, b, dy, s: (z**2 * s * (1 - s)).sum()), "dy, is missing"),
    ("swish", swish(dbeta=lambda z, b, dy, s: (dy * b * z**2 * s * (1 - s)).sum()), "a factor beta too many"),
    ("second_moment", lambda phi: m(phi) - mean(lambda a: a, phi) ** 2, "this is the variance"),
    ("second_moment", lambda phi: mean(lambda a: a, phi), "mean of phi(z); square it"),
    ("second_moment", lambda phi: mean(lambda a: a, phi) ** 2, "square of the mean"),
    ("second_moment", lambda phi: math.sqrt(m(phi)), "root of the mean square"),
    ("second_moment", lambda phi: phi(torch.linspace(-3, 3, 6001)).square().mean(), "z is uniform here"),
    ("second_moment", lambda phi: 1.0, "not of phi(z)"),
    ("second_moment", lambda phi: 0.5, "for GELU, expected 0.4252, got 0.5"),
    ("weight_std", lambda phi, i, o: 1 / (i * m(phi)), "this is the variance"),
    ("weight_std", lambda phi, i, o: (i * (m(phi) - mean(lambda a: a, phi) ** 2)) ** -0.5, "takes the variance"),
    ("weight_std", lambda phi, i, o: (2 / (i + o)) ** 0.5, "Xavier"),
    ("weight_std", lambda phi, i, o: i**-0.5, "right for a linear layer only"),
    ("weight_std", lambda phi, i, o: (o * m(phi)) ** -0.5, "this takes fan_out"),
    ("weight_std", lambda phi, i, o: (2 / o) ** 0.5, "this takes fan_out"),
    ("weight_std", lambda phi, i, o: (2 / ((i + o) * m(phi))) ** 0.5, "averages fan_in and fan_out"),
    ("weight_std", lambda phi, i, o: (m(phi) / i) ** 0.5, "a small one needs larger weights"),
    ("weight_std", lambda phi, i, o: (2 / (i * m(phi))) ** 0.5, "factor sqrt(2) too many"),
    ("weight_std", lambda phi, i, o: (2 / i) ** 0.5, "right for ReLU only"),
    ("uniform_bound", lambda phi, i, o: (i * m(phi)) ** -0.5, "must reach further"),
    ("uniform_bound", lambda phi, i, o: (3 * i * m(phi)) ** -0.5, "divides by the root of 3"),
    ("uniform_bound", lambda phi, i, o: (12 / (i * m(phi))) ** 0.5, "width of the interval"),
    ("uniform_bound", lambda phi, i, o: 3 / (i * m(phi)), "r squared"),
    ("uniform_bound", lambda phi, i, o: (3 / (o * m(phi))) ** 0.5, "this takes fan_out"),
    ("uniform_bound", lambda phi, i, o: (6 / (i + o)) ** 0.5, "Xavier"),
    ("moved", lambda x, d, r: x.roll((d, r), (2, 3)), "comes in on the other"),
    ("moved", lambda x, d, r: push(x, -d, -r), "positive means down"),
    ("moved", lambda x, d, r: push(x, -d, r), "positive means down"),
    ("moved", lambda x, d, r: push(x, d, -r), "to the right"),
    ("moved", lambda x, d, r: push(x, r, d), "rows and columns are exchanged"),
    ("moved", lambda x, d, r: x, "are not moved"),
    ("moved", lambda x, d, r: push(x, max(d, 0), max(r, 0)), "negative shifts do nothing"),
    ("moved", sliced, "x[:-0] is empty"),
    ("moved", lambda x, d, r: x[:, :, max(d, 0) :, max(r, 0) :], "expected shape (2, 1, 6, 7)"),
    ("accuracy_map", mapped(lambda x: x.T), "rows and columns are exchanged"),
    ("accuracy_map", mapped(lambda x: x.flip(0)), "upside down"),
    ("accuracy_map", mapped(lambda x: x.flip(1)), "mirrored"),
    ("accuracy_map", mapped(lambda x: x / 100), "a fraction"),
    ("accuracy_map", mapped(lambda x: 100 - x), "share of errors"),
    ("accuracy_map", mapped(move=lambda x, i, j: x.roll((i, j), (2, 3))), "comes in on the other"),
    ("accuracy_map", mapped(move=lambda x, i, j: x), "never moved"),
    ("accuracy_map", mapped(ways=lambda reach: range(-reach, reach)), "both ends belong to the map"),
    ("accuracy_map", mapped(ways=lambda reach: range(reach + 1)), "both directions"),
    ("accuracy_map", moved_on, "the moved images are moved again"),
    ("accuracy_map", lambda predict, x, y, reach: predict(x[0]), "takes all images at once"),
    ("sensitive", lambda: ("trouser", "up"), "another direction costs more"),
    ("sensitive", lambda: ("dress", "left"), "another garment loses more"),
    ("sensitive", lambda: ("shirt", "up"), "look for the largest entry"),
    ("sensitive", lambda: ("left", "trouser"), "expected a garment among"),
    ("sensitive", lambda: ("trouser", "north"), "expected a direction among"),
]


@pytest.mark.parametrize(("check", "answer", "message"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(check: str, answer: Any, message: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("check", [*activations.__all__, *spread.__all__, *shifts.__all__])
def test_every_check_knows_four_mistakes(check: str) -> None:
    assert len([message for name, _, message in MISTAKES if name == check]) >= 4


@pytest.mark.parametrize("name", ["ReLU", "tanh", "GELU", "sigmoid", "the absolute value"])
def test_the_derived_deviation_keeps_the_mean_square_over_twenty_layers(name: str) -> None:
    """Layers of falling width; each gets fresh normal sums, so that only the formula is tested, not luck."""
    phi, g = spread.activations(0)[name], torch.Generator().manual_seed(0)
    product = 1.0
    for fan_in in range(600, 400, -10):
        std = 1 / math.sqrt(fan_in * spread.moment(phi))
        a = phi(torch.randn(1000, fan_in, generator=g))
        z = a @ (std * torch.randn(fan_in, fan_in // 2, generator=g))
        product *= z.square().mean().item()
    assert 0.8 < product < 1.25
    assert abs(product ** (1 / 20) - 1) < 0.01
