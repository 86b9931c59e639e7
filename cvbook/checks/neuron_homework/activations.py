"""Checks of the homework on neurons, exercise 5: activations that learn their own shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.answers import derived, number, parts, tensor
from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["prelu_input", "prelu_slope", "swish"]


def _batches(seed: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Sums (B, D) away from 0, slopes (D,) and arriving gradients (B, D)."""
    g, batches = torch.Generator().manual_seed(seed), []
    for B, D in ((5, 3), (1, 4), (3, 3), (6, 1 + seed % 5)):
        z = torch.randn(B, D, generator=g, dtype=torch.float64)
        z = z + 0.1 * z.sign()
        z[0, 0] = -z[0, 0].abs()  # at least one negative sum
        a = 0.1 + 0.5 * torch.rand(D, generator=g, dtype=torch.float64)
        batches.append((z, a, torch.randn(B, D, generator=g, dtype=torch.float64)))
    return batches


def _nudged(f: Callable[[Tensor], Tensor], x: Tensor, h: float = 1e-6) -> Tensor:
    """Central differences of a function with one output, entry by entry."""
    slopes = torch.zeros_like(x)
    for i in range(x.numel()):
        step = torch.zeros_like(x).flatten()
        step[i] = h
        slopes.view(-1)[i] = (f(x + step.view_as(x)) - f(x - step.view_as(x))) / (2 * h)
    return slopes


@exercise("Exercise 5, PReLU by its input")
def prelu_input(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The first result of ``answer(z, a, dy)``, against central differences."""
    for z, a, dy in _batches(seed):
        what = f"dz, {len(z)} input(s) and {len(a)} neuron(s)"
        got, other = parts(derived(answer, z=z, a=a, dy=dy), "(dz, da)")
        right = _nudged(lambda v, a=a, dy=dy: (dy * F.prelu(v, a)).sum(), z)  # type: ignore[misc]
        if len(z) > 1 and getattr(got, "shape", 0) == a.shape and getattr(other, "shape", 0) == z.shape:
            raise Wrong("the two results are exchanged: first dz, for each sum, then da, for each neuron")
        up = z > 0
        mistakes = {
            "dz: the slope a is on the positive side; it belongs to negative sums": dy * torch.where(up, a, 1.0),
            "dz: negative sums get no gradient; this is ReLU, PReLU lets a of it through": dy * up,
            "dz: for negative sums the slope is a, not a z": dy * torch.where(up, 1.0, a * z),
            "dz: for positive sums the slope is 1, not z": dy * torch.where(up, z, a),
            "dz: this is the slope alone; multiply by dy, the gradient that arrives": torch.where(up, 1.0, a).double(),
            "dz: the slope is added to dy; the chain rule multiplies": dy + torch.where(up, 1.0, a),
            "dz: this is PReLU itself, times dy": dy * F.prelu(z, a),
            "dz: everything is multiplied by a; positive sums have the slope 1": dy * a,
        }  # fmt: skip
        equal(tensor(got, what), right, mistakes=mistakes, what=what)
    return "right, on both sides of 0"


@exercise("Exercise 5, PReLU by its slope")
def prelu_slope(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The second result of the same function: how the loss depends on each learned slope."""
    for z, a, dy in _batches(seed):
        what = f"da, {len(z)} input(s) and {len(a)} neuron(s)"
        got = parts(derived(answer, z=z, a=a, dy=dy), "(dz, da)")[1]
        right = _nudged(lambda s, z=z, dy=dy: (dy * F.prelu(z, s)).sum(), a)  # type: ignore[misc]
        down = z.clamp(max=0)
        mistakes = {
            "da: a slope is used by every input of the batch; add the shares up over the batch": dy * down,
            "da: the shares are averaged over the batch; add them up": right / len(z),
            "da: this adds up over the neurons; each has a slope of its own": (dy * down).sum(1),
            "da: this is one number; each neuron has a slope of its own": (dy * down).sum(),
            "da: positive sums do not use a at all": (dy * z).sum(0),
            "da: the wrong half: a is used where the sum is negative": (dy * z.clamp(min=0)).sum(0),
            "da: the gradient that arrives, dy, is missing": down.sum(0),
            "da: the derivative of a z by a is z, not 1": (dy * (z < 0)).sum(0),
            "da: the derivative of a z by a is z; a itself is gone": (a * dy * down).sum(0),
            "da: the derivative of a z by a is z; by z it would be a": (a * dy * (z < 0)).sum(0),
            "da: the sign is wrong; z is negative here, and stays so": -right,
        }  # fmt: skip
        equal(tensor(got, what), right, mistakes=mistakes, what=what)
    return "right: one number for each neuron"


@exercise("Exercise 5, swish")
def swish(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(z, beta, dy)``: the pair (dz, dbeta) for z σ(βz), against central differences."""
    for (z, _, dy), beta in zip(_batches(seed), (1.7, 0.4, 3.0, 1.0), strict=True):
        b = torch.tensor(beta, dtype=torch.float64)
        dz, dbeta = parts(derived(answer, z=z, beta=beta, dy=dy), "(dz, dbeta)")
        what = f"{tuple(z.shape)} sums and beta = {beta}"
        s = torch.sigmoid(b * z)
        twice, slope = torch.sigmoid(s), s * (1 - s)
        mistakes = {
            "dz: the inner derivative is missing: the chain rule brings a factor beta": dy * (s + z * slope),
            "dz: beta is ignored": dy * (torch.sigmoid(z) * (1 + z * (1 - torch.sigmoid(z)))),
            "dz: only the first term of the product rule is there": dy * s,
            "dz: only the second term of the product rule is there": dy * b * z * slope,
            "dz: the sigmoid is applied twice: s (1 - s) wants s = sigmoid(beta z)": dy * (
                s + b * z * twice * (1 - twice)
            ),
            "dz: the slope of the sigmoid is s (1 - s), not 1 - s": dy * (s + b * z * (1 - s)),
            "dz: the slope of the sigmoid is s (1 - s), not 1 - s**2; that belongs to tanh": dy * (
                s + b * z * (1 - s**2)
            ),
            "dz: this is the slope alone; multiply by dy, the gradient that arrives": s + b * z * slope,
        }  # fmt: skip
        right = _nudged(lambda v, b=b, dy=dy: (dy * v * torch.sigmoid(b * v)).sum(), z)  # type: ignore[misc]
        equal(tensor(dz, f"dz, {what}"), right, mistakes=mistakes, what=f"dz, {what}")
        mistakes = {
            "dbeta: z occurs twice: outside the sigmoid, and as the inner derivative of beta z": (dy * z * slope).sum(),
            "dbeta: beta is one number for all; add the shares of all sums up": dy * z**2 * slope,
            "dbeta: the shares are averaged; add them up": (dy * z**2 * slope).mean(),
            "dbeta: add up over the neurons too; beta is one number": (dy * z**2 * slope).sum(0),
            "dbeta: the gradient that arrives, dy, is missing": (z**2 * slope).sum(),
            "dbeta: the inner derivative of beta z by beta is z, not beta": (dy * z * b * slope).sum(),
            "dbeta: the slope of the sigmoid is missing": (dy * z**2).sum(),
            "dbeta: the slope of the sigmoid is s (1 - s), not s": (dy * z**2 * s).sum(),
            "dbeta: there is a factor beta too many; the inner derivative of beta z by beta is z": (
                (dy * b * z**2 * slope).sum()
            ),
        }
        right = _nudged(lambda c, z=z, dy=dy: (dy * z * torch.sigmoid(c * z)).sum(), b)  # type: ignore[misc]
        equal(tensor(dbeta, f"dbeta, {what}"), right, mistakes=mistakes, what=f"dbeta, {what}")
        number(dbeta, f"dbeta, {what}")
    return "right, by both"
