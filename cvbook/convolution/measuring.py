"""Measure a field on one image, along one axis, at the units in the middle of the map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from cvbook.convolution.dependence import Dependence
from cvbook.convolution.fields import NothingSeen, WholeImage
from cvbook.convolution.running import dtype, run

__all__ = ["WHOLE", "Axis", "is_map", "look", "measure"]


@dataclass(frozen=True)
class Axis:
    """One axis of a field, measured in the middle of the map."""

    size: float
    stride: float
    offset: float
    inside: bool  # the units measured stay clear of the border, and stride and offset are certain
    covers: bool  # they see everything
    clear: bool  # they stay clear of the border


WHOLE = Axis(math.inf, 0.0, math.nan, True, True, True)


def measure(module: nn.Module, shape: Sequence[int], axes: Sequence[int] = (0, 1)) -> list[Axis]:
    """Run the module once on an empty image ``(C, H, W)``; what is seen along rows (0) and columns (1)."""
    image = torch.empty(1, *shape, device="meta", dtype=dtype(module))
    seen = Dependence(image, axes)
    output = run(module, image, seen)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"expected a module that returns one tensor, got {type(output).__name__}; wrap it in one that picks"
        )
    if output not in seen.fields:
        raise ValueError("expected an output that depends on the image, got one that does not; check the module")
    fields = seen.fields[output]
    if not is_map(output, fields):
        raise ValueError(
            f"expected a map (1, C, h, w) or one that sees all pixels, got {tuple(output.shape)}; leave out the head"
        )
    return [look(field, 2 + axis, shape[1 + axis]) for field, axis in zip(fields, axes, strict=True)]


def is_map(output: Tensor, fields: Sequence[np.ndarray]) -> bool:
    """Whether it has rows and columns, or all its entries see the same pixels."""
    return output.ndim == 4 or not any(np.ptp(part) for field in fields for part in field)


def look(field: np.ndarray, dim: int, n: int) -> Axis:
    """Size, stride and offset along one axis; ``dim`` is the dim that should carry it."""
    lengths = list(field.shape[1:])
    if dim >= len(lengths) or lengths[dim] == 1:  # transposed, channels last, or nothing moves
        dim = int(np.argmax(lengths))
    if len(lengths) == 4 and dim >= 2:  # one unit is all channels at one place
        field = field.min(axis=2, keepdims=True)
    field = field.astype(np.int64)
    sizes = np.where(field[0] < NothingSeen, 1 - field[1] - field[0], 0)
    others = tuple(d for d in range(len(lengths)) if d != dim)
    sizes, units = sizes.max(axis=others), field.min(axis=tuple(d + 1 for d in others))
    m = units.shape[1]
    start, stop = 3 * m // 8, max(5 * m // 8, 3 * m // 8 + 1)
    first, last = units[0, start:stop], -units[1, start:stop]
    valid = first < NothingSeen  # strided transposed convolution may leave units that see nothing
    if (first == WholeImage).any():
        return WHOLE
    if not valid.any():
        return Axis(0, math.nan, math.nan, False, False, False)
    low, high = int(first[valid].min()), int(last[valid].max())
    stride, offset = _lattice(first + last, valid, start)
    clear = low > 0 and high < n - 1
    seen = sizes[start:stop][valid]
    return Axis(int(seen.max()), stride, offset, clear and not math.isnan(stride), int(seen.min()) == n, clear)


def _lattice(centers: np.ndarray, valid: np.ndarray, start: int) -> tuple[float, float]:
    """Mean stride and offset of twice the centers, which may advance by a pattern that repeats itself."""
    for period in range(1, min(64, (len(centers) - 1) // 2) + 1):
        steps = (centers[period:] - centers[:-period])[valid[:-period]]
        if (valid[period:] == valid[:-period]).all() and len(steps) and np.ptp(steps) == 0:
            stride = Fraction(int(steps[0]), 2 * period)
            places = [Fraction(int(centers[i]), 2) - (start + i) * stride for i in range(period) if valid[i]]
            return float(stride), float(sum(places, Fraction()) / len(places))
    return math.nan, math.nan
