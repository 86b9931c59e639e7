"""Checks of the homework on neurons, exercise 6: how large weights must be for any activation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.answers import called, close, number
from cvbook.checks.verdict import exercise

__all__ = ["second_moment", "uniform_bound", "weight_std"]

Activation = Callable[[Tensor], Tensor]
TOLERANCE = 0.01  # room for an answer that averages over random numbers


def activations(seed: int) -> dict[str, Activation]:
    """Activations by name; one of them with a random slope."""
    slope = 0.1 + 0.6 * float(torch.rand((), generator=torch.Generator().manual_seed(seed)))
    return {
        "GELU": F.gelu,  # first, because no known mistake gives its mean square or 0.5, that of ReLU
        "sigmoid": torch.sigmoid,
        "ReLU": F.relu,
        "tanh": torch.tanh,
        f"leaky ReLU with slope {slope:.2f}": lambda z: F.leaky_relu(z, slope),
        "the absolute value": torch.abs,
    }


def moment(phi: Activation, *, power: float = 2, spread: float = 1, flat: bool = False) -> float:
    """The mean of phi(z) to a power over normal z of a standard deviation, or over z uniform in ±√3, by a fine sum."""
    z = torch.linspace(-9, 9, 36_001, dtype=torch.float64)
    density = (z.abs() <= math.sqrt(3)).double() if flat else torch.exp(-z.square() / 2)
    return float((phi(spread * z) ** power * density).sum() / density.sum())


@exercise("Exercise 6, the mean square")
def second_moment(answer: Callable[[Activation], Any], *, seed: int = 0) -> str:
    """``answer(phi)``: the mean of phi(z)² for standard normal z, within one percent."""
    for name, phi in activations(seed).items():
        mean, right = moment(phi, power=1), moment(phi)
        z = torch.linspace(-3, 3, 6001, dtype=torch.float64)
        mistakes = {
            "this is the variance: the square of the mean is subtracted; here the mean square itself is wanted": (
                right - mean**2
            ),
            "this is the mean of phi(z); square it before you average": mean,
            "this is the square of the mean; square first, then average": mean**2,
            "this is the root of the mean square": math.sqrt(right),
            "this is the mean of |phi(z)|; square before you average": moment(lambda v, f=phi: f(v).abs(), power=1),  # type: ignore[misc]
            "z is uniform here, equally often everywhere; it must be normal, mostly near 0": float(
                phi(z).square().mean()
            ),
            "z is uniform here; it must be normal": moment(phi, flat=True),
            "this is the mean square of z, not of phi(z)": 1.0,
        }
        got = number(called(answer, phi=phi), name)
        close(got, right, mistakes, tolerance=TOLERANCE, what=name)
    return "right: half for ReLU, less for tanh"


@exercise("Exercise 6, the standard deviation")
def weight_std(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(phi, fan_in, fan_out)``: the standard deviation of the weights that keeps the mean square at 1."""
    for (name, phi), (fan_in, fan_out) in zip(activations(seed).items(), _fans(seed), strict=True):
        m, variance = moment(phi), moment(phi) - moment(phi, power=1) ** 2
        right = 1 / math.sqrt(fan_in * m)
        mistakes = {
            "this is the variance; take its root for the standard deviation": right**2,
            "the activation is ignored: 1 / fan_in is right for a linear layer only": 1 / math.sqrt(fan_in),
            "the activation is ignored: 2 / fan_in is right for ReLU only": math.sqrt(2 / fan_in),
            "this takes fan_out; a sum has fan_in terms": 1 / math.sqrt(fan_out * m),
            "this takes fan_out, and He's 2 whatever phi is": math.sqrt(2 / fan_out),
            "this averages fan_in and fan_out; a sum has fan_in terms": math.sqrt(2 / ((fan_in + fan_out) * m)),
            "this is Xavier's formula, which knows no activation and averages fan_in and fan_out": (
                math.sqrt(2 / (fan_in + fan_out))
            ),
            "this takes the variance of phi(z); the mean of phi(z)**2 counts": 1 / math.sqrt(fan_in * variance),
            "the mean square of phi is a factor here; a small one needs larger weights": math.sqrt(m / fan_in),
            "the mean square is divided out twice: take its root as well": 1 / (math.sqrt(fan_in) * m),
            "there is a factor sqrt(2) too many: the mean square of ReLU contains the 1/2": math.sqrt(2) * right,
        }
        got = number(called(answer, phi=phi, fan_in=fan_in, fan_out=fan_out), name)
        close(got, right, mistakes, tolerance=TOLERANCE, what=f"{name}, fan_in {fan_in} and fan_out {fan_out}")
    return "right: He's formula is the case of ReLU"


@exercise("Exercise 6, the uniform bound")
def uniform_bound(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(phi, fan_in, fan_out)``: r such that weights uniform between -r and r have that deviation."""
    for (name, phi), (fan_in, fan_out) in zip(activations(seed).items(), _fans(seed), strict=True):
        std = 1 / math.sqrt(fan_in * moment(phi))
        right = math.sqrt(3) * std
        mistakes = {
            "this is the standard deviation; a uniform distribution must reach further": std,
            "this divides by the root of 3; numbers between -r and r have the standard deviation r / sqrt(3)": (
                std / math.sqrt(3)
            ),
            "this is the width of the interval, from -r to r; return half of it": 2 * right,
            "the variance r**2 / 3 has a root: r is sqrt(3) standard deviations, not 3": 3 * std,
            "this is r squared": right**2,
            "this is PyTorch's default for Linear, 1 / sqrt(fan_in)": 1 / math.sqrt(fan_in),
            "this takes fan_out; a sum has fan_in terms": right * math.sqrt(fan_in / fan_out),
            "this is right for ReLU only": math.sqrt(6 / fan_in),
            "this is Xavier's bound, which knows no activation and averages fan_in and fan_out": (
                math.sqrt(6 / (fan_in + fan_out))
            ),
        }
        got = number(called(answer, phi=phi, fan_in=fan_in, fan_out=fan_out), name)
        close(got, right, mistakes, tolerance=TOLERANCE, what=f"{name}, fan_in {fan_in} and fan_out {fan_out}")
    return "right: sqrt(3) times as far"


def _fans(seed: int) -> list[tuple[int, int]]:
    g = torch.Generator().manual_seed(seed + 10)
    return [(int(f), int(f) // 3 + 7) for f in torch.randint(60, 900, (6,), generator=g)]
