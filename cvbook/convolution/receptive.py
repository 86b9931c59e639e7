"""Receptive fields: which pixels can one output unit see?"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cvbook.convolution.effective import effective_receptive_field
from cvbook.convolution.measuring import WHOLE, Axis, measure
from cvbook.convolution.running import DoesNotRun, evaluating, first_line

__all__ = ["ReceptiveField", "effective_receptive_field", "receptive_field"]

SIZES = (256, 224, 32, 28, 64, 96, 128, 299, 384, 512, 1024, 2048, 4096)  # tried in turn until the module accepts one
LARGEST = 16384
BOUND = LARGEST // 2  # of a given input_shape
CERTAIN = 2048  # on a smaller image, windows that overlap its border may look like the whole image


@dataclass(frozen=True)
class ReceptiveField:
    """What one unit of the output map sees, in input pixels; every pair is (vertical, horizontal).

    Attributes:
        size: rows and columns from the first to the last pixel that an inner unit depends on; ``inf`` where the field
            grows with the image (global pooling, attention, linear layers on the whole map). One unit is all channels
            at one place, so what they see is put together. If the field differs from unit to unit, as after
            up-sampling, the largest.
        stride: how far the field moves from one unit to the next, on average; 0.0 where it is the whole image. NaN if
            there is no such number.
        offset: center of the field of unit 0, as if the image went on beyond its border: pixel 0 has its center at
            0.0, and a field that reaches into the padding may center on a negative number. NaN for the whole image,
            and where the fields move with the image's size, as in a mirrored image.
    """

    size: tuple[float, float]
    stride: tuple[float, float]
    offset: tuple[float, float]

    @property
    def whole_image(self) -> bool:
        """Whether a unit sees all rows and all columns of any image, however large."""
        return all(math.isinf(size) for size in self.size)


def receptive_field(module: nn.Module, input_shape: Sequence[int] | None = None) -> ReceptiveField:
    """The theoretical receptive field of a network with one image in and one map out.

    The module runs in ``eval`` mode on tensors without data (device ``meta``) while each operation reports which rows
    and columns its results depend on: branches, skips, concatenations, dilation, pooling in ceil mode, up-sampling
    and attention need no special treatment. The image is lengthened along one axis at a time until inner units stay
    clear of its border and two sizes agree. The module is left as it is: its parameters, buffers, other attributes and
    mode.

    Args:
        module: maps images ``(1, C, H, W)`` to one tensor: a map ``(1, C', h, w)``, or anything that sees all pixels.
        input_shape: ``(C, H, W)`` or ``(1, C, H, W)`` to start from, for a module that takes only certain sizes; by
            default found by trying.

    Returns:
        A `ReceptiveField`.

    Raises:
        TypeError: if ``module`` is no ``nn.Module``, or does not return one tensor.
        ValueError: if it does not take such an image, if its output is no map of the image, or if it takes only
            images that are too small to see a whole field, or would take too much memory.
        NotImplementedError: if it uses an operation that has no rule, or whose reach depends on pixel values.

    Source: Araujo, Norris and Sim (2019), Computing Receptive Fields of Convolutional Neural Networks, Distill,
    https://doi.org/10.23915/distill.00021; here without formulas for layers.

    >>> receptive_field(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3)))
    ReceptiveField(size=(7, 7), stride=(2.0, 2.0), offset=(2.0, 2.0))
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected an nn.Module, got {type(module).__name__}; wrap functions in a module")
    with evaluating(module):
        shape, now = _start(module, input_shape)
        axes = [_follow(module, shape, axis, now[axis]) for axis in (0, 1)]
    rows, columns = axes
    return ReceptiveField((rows.size, columns.size), (rows.stride, columns.stride), (rows.offset, columns.offset))


def _start(module: nn.Module, input_shape: Sequence[int] | None) -> tuple[tuple[int, ...], list[Axis]]:
    """The first shape that the module takes, and what is seen there."""
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise ValueError("expected a module whose shapes are known, got a lazy one; run it once on an image first")
    if input_shape is not None:
        shapes = [_checked(input_shape)]
    else:
        keys = ("in_channels", "num_features", "num_channels")
        declared = [getattr(part, key) for part in module.modules() for key in keys if hasattr(part, key)]
        weights = [p.shape[1] for p in module.parameters() if p.ndim == 4]
        channels = dict.fromkeys([*declared[:1], *weights[:1], 3, 1])
        shapes = [(c, side, side) for c in channels for side in SIZES]
    failures = []
    for shape in shapes:
        try:
            return shape, measure(module, shape)
        except DoesNotRun as failure:
            failures.append(first_line(failure.__cause__))
    tried = f"images {shapes[0]}" + (f" and {len(shapes) - 1} other shapes" if len(shapes) > 1 else "")
    raise ValueError(f"expected a module that takes {tried}, got: {failures[0]}; give the input_shape that it takes")


def _checked(shape: Sequence[int]) -> tuple[int, ...]:
    sides = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else ()
    try:
        sides = tuple(operator.index(n) for n in sides)
    except TypeError:
        sides = ()
    if len(sides) not in (3, 4) or (len(sides) == 4 and sides[0] != 1) or min(sides) < 1 or max(sides[-2:]) > BOUND:
        got = tuple(shape.shape) if isinstance(shape, Tensor) else shape
        kind = f"a {type(shape).__name__} " if not isinstance(shape, (tuple, list)) else ""
        raise ValueError(
            f"expected input_shape (C, H, W) or (1, C, H, W), integers from 1 to at most {BOUND} for H and W, got "
            f"{kind}{got!r}; give such a tuple"
        )
    return sides[-3:]


def _follow(module: nn.Module, shape: tuple[int, ...], axis: int, now: Axis) -> Axis:
    """Lengthen the image along one axis until inner units stay clear of the border and two images agree.

    The other axis alternates between once and twice its length, which shows fields that grow with it and keeps images
    small. A module that takes no such image gets squarer ones: both axes are doubled.
    """
    square, measured = False, [now]
    while shape[1 + axis] < LARGEST:
        if not square:
            wide = len(measured) % 2 == 1
            along, across = shape[1 + axis] * (4 if wide else 2), shape[2 - axis] * 2 if wide else shape[2 - axis] // 2
            larger = (shape[0], along, across) if axis == 0 else (shape[0], across, along)
        else:
            larger = (shape[0], 2 * shape[1], 2 * shape[2])
        try:
            measured += measure(module, larger, [axis])
        except DoesNotRun:
            if not square and len(measured) == 1:
                square = True
                continue
            return _only(shape, axis, measured)
        shape = larger
        before, now = measured[-2:]
        if before == now and now.inside and (now != WHOLE or shape[1 + axis] >= CERTAIN):
            return now
    if before.size != now.size:
        return WHOLE
    return replace(
        now,
        stride=now.stride if before.stride == now.stride else math.nan,
        offset=now.offset if (before.stride, before.offset) == (now.stride, now.offset) else math.nan,
    )


def _only(shape: tuple[int, ...], axis: int, measured: list[Axis]) -> Axis:
    """The module takes no larger image than ``shape``: is what was seen certain all the same?"""
    now, grows = measured[-1], len({seen.size for seen in measured[-2:]}) > 1
    if now.inside and not grows:
        return now
    if now.covers:
        return WHOLE
    raise ValueError(
        f"expected an image larger than the field, but the module takes none larger than {shape}, of which inner units "
        f"see up to {now.size} {('rows', 'columns')[axis]}, {'a growing part' if grows else 'cut off at the border'}; "
        "measure its parts"
    )
