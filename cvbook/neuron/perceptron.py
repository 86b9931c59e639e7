"""Rosenblatt's perceptron: one neuron with a step, corrected whenever it is wrong (https://doi.org/10.1037/h0042519).

Labels are 0 or 1, and the neuron answers 1 where ``w . x + b >= 0``: the step of `cvbook.neuron.activations`. The rule
is to add a mistaken example to the weights if 1 was expected, and to subtract it if 0 was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cvbook._arguments import number, tensor

__all__ = ["Correction", "corrections", "mistake_bound", "predict", "separable"]

BLOCK = 64  # examples looked at together: mistakes get rare, and one product of 64 rows is faster than 64 products


class Correction(NamedTuple):
    """What `corrections` yields: the weights ``(D,)`` and the bias after it, and the index of the mistaken example."""

    weights: Tensor
    bias: Tensor
    mistake: int


def predict(x: Tensor, weights: Tensor, bias: Tensor | float) -> Tensor:
    """The neuron's answer for each row of ``x (N, D)``: ``(N,)`` booleans, True on and beyond the line.

    Args:
        x: integers are computed in int64, and become floats if the weights are.
        weights, bias: ``(D,)`` and a number.

    Raises:
        TypeError: if ``x`` or the weights are no tensor of numbers, or the bias is no number.
        ValueError: if the shapes do not fit.

    >>> predict(torch.tensor([[0, 0], [1, 1]]), torch.tensor([1, 1]), -2)
    tensor([False,  True])
    """
    x, weights, bias = _numbers("x", x), *_neuron(x, weights, bias)
    kind = torch.promote_types(x.dtype, weights.dtype)
    return _answers(x.to(kind), weights.to(kind), bias)


def corrections(x: Tensor, y: Tensor) -> Iterator[Correction]:
    """Learn from mistakes, one at a time, starting from zeros; examples are shown in their order, over and over.

    Ends after a pass without a mistake, and never if no line separates the labels: take as many as you need, for
    example with ``itertools.islice``. Integer examples give int64 weights, without rounding.

    Args:
        x: ``(N, D)`` examples, float or of any integer type.
        y: ``(N,)`` labels, 0 or 1 (any type).

    Yields:
        A `Correction` after each mistake.

    Raises:
        TypeError: if one is no tensor, or ``x`` holds booleans or complex numbers.
        ValueError: if the shapes do not fit, an example is not finite, or a label is neither 0 nor 1.

    >>> x, y = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), torch.tensor([0, 1, 1, 1])
    >>> [(w.tolist(), int(b), i) for w, b, i in corrections(x, y)]  # OR
    [([0, 0], -1, 0), ([0, 1], 0, 1), ([0, 1], -1, 0), ([1, 1], 0, 2), ([1, 1], -1, 0)]
    """
    x, y = _checked(x, y)
    w, b = x.new_zeros(x.shape[1]), x.new_zeros(())
    start = 0
    while (i := _next_mistake(x, y, w, b, start)) is not None:
        sign = 1 if y[i] else -1
        w, b, start = w + sign * x[i], b + sign, i + 1  # new tensors: what was yielded before stays as it was
        yield Correction(w, b, i)


def separable(x: Tensor, y: Tensor) -> bool:
    """Whether some neuron answers ``y`` for every row of ``x``, decided by the perceptron rule itself.

    Either a pass without a mistake comes, or weights come back that were there before. Then the corrections in between
    add up to zero, and no neuron is right on all of them: summed over these examples, its scores, positive for 1 and
    negated for 0, would have to be positive and zero at once. For integers one of the two must happen, because weights
    stay bounded (Block & Levin 1970, Proceedings of the AMS 26, 229-235), but it can take long.

    Args:
        x: ``(N, D)`` examples, of any integer type.
        y: ``(N,)`` labels, 0 or 1.

    Raises:
        TypeError: if ``x`` is not of an integer type, because rounded weights never come back.
        ValueError, TypeError: as in `corrections`.

    >>> pixels = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> separable(pixels, torch.tensor([0, 0, 0, 1])), separable(pixels, torch.tensor([0, 1, 1, 0]))  # AND, XOR
    (True, False)
    """
    x, y = _checked(x, y)
    if x.is_floating_point():
        raise TypeError(f"expected integers, so that weights can come back exactly, got {x.dtype}; use x.long()")
    seen = {(*[0] * x.shape[-1], 0)}
    for weights, bias, _ in corrections(x, y):
        state = (*weights.tolist(), int(bias))
        if state in seen:
            return False
        seen.add(state)
    return True


def mistake_bound(x: Tensor, y: Tensor, weights: Tensor, bias: Tensor | float) -> float:
    """Novikoff's bound (R / gamma)**2 on the number of corrections from zero weights, by a neuron that is right.

    It holds for `corrections`, which starts at zero; from other weights there may be more. With the constant input 1 of
    the bias appended to each example, R is the length of the longest one, and gamma the smallest distance from the
    plane of the given neuron. Better neurons give smaller bounds.

    Args:
        x, y: as in `corrections`.
        weights, bias: ``(D,)`` and a number: a neuron that is right, and not on its own line, everywhere.

    Raises:
        TypeError: as in `predict`.
        ValueError: if the shapes do not fit, there are no examples, or this neuron does not separate them.

    Source: Novikoff 1962; Theorem 1 in Freund & Schapire 1999, https://doi.org/10.1023/A:1007662407062.

    >>> x, y = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 0, 0, 1])
    >>> round(mistake_bound(x, y, torch.tensor([2.0, 2.0]), -3.0))  # AND: 3 * 17
    51
    """
    x, y = _checked(x, y)
    weights, bias = _neuron(x, weights, bias)
    if not len(x):
        raise ValueError("expected examples, got none; look at how they were selected")
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1).double()
    w = torch.cat([weights.double(), torch.tensor([float(bias)], dtype=torch.float64)])
    distance = torch.where(y, 1, -1) * (x @ w) / w.norm()
    if not distance.min() > 0:  # not: true for NaN too
        wrong = int(distance.argmin())
        raise ValueError(
            f"expected a neuron that separates all examples, got one that fails on number {wrong}; train it until no "
            "correction is left"
        )
    return float((x.norm(dim=1).max() / distance.min()) ** 2)


def _next_mistake(x: Tensor, y: Tensor, w: Tensor, b: Tensor, start: int) -> int | None:
    """The first mistake from ``start`` on, going round; None if there is none."""
    for block in torch.arange(start, start + len(x)).remainder(len(x)).split(BLOCK):
        wrong = _answers(x[block], w, b) != y[block]
        if wrong.any():
            return int(block[wrong][0])
    return None


def _answers(x: Tensor, w: Tensor, b: Tensor | float) -> Tensor:
    return x @ w + b >= 0


def _checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x = _numbers("x", x)
    if x.ndim != 2 or tensor("y", y).shape != x.shape[:1]:
        got = " and ".join(str(tuple(one.shape)) for one in (x, tensor("y", y)))
        raise ValueError(f"expected x (N, D) and y (N,), got {got}; flatten images first")
    if not x.isfinite().all():
        raise ValueError("expected finite examples, but x contains NaN or infinite values; look at their source")
    if not ((y == 0) | (y == 1)).all():
        raise ValueError(f"expected labels 0 and 1, got {sorted(set(y.tolist()))[:5]}; use (labels == one_of_them)")
    return x, y == 1


def _numbers(name: str, value: Tensor) -> Tensor:
    """A tensor of floats, or of integers as int64: sums of smaller ones would wrap around."""
    if tensor(name, value).dtype == torch.bool or value.is_complex():
        raise TypeError(f"expected {name} as integers or floats, got {value.dtype}; convert with {name}.float()")
    return value if value.is_floating_point() else value.long()


def _neuron(x: Tensor, weights: Tensor, bias: Tensor | float) -> tuple[Tensor, Tensor | float]:
    weights = _numbers("weights", weights)
    if x.ndim != 2 or weights.shape != x.shape[1:]:
        got = f"{tuple(x.shape)} and {tuple(weights.shape)}"
        raise ValueError(f"expected x (N, D) and weights (D,), got {got}; flatten both to one number each feature")
    number("bias", bias)
    return weights, bias.reshape(()) if isinstance(bias, Tensor) else bias
