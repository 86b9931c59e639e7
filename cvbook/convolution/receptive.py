"""Receptive fields: which pixels can one output unit see, and how much does each of them count?"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cvbook.convolution.dependence import CircularPadding, Dependence, NoRule
from cvbook.convolution.fields import NothingSeen, WholeImage

__all__ = ["ReceptiveField", "effective_receptive_field", "receptive_field"]

SIZES = (256, 224, 32, 28, 64, 96, 128, 299, 384, 512, 1024, 2048, 4096)  # tried in turn until the module accepts one
LARGEST = 16384
CERTAIN = 2048  # on a smaller image, windows that overlap its border may look like the whole image


@dataclass(frozen=True)
class ReceptiveField:
    """What one unit of the output map sees, in input pixels; every pair is (vertical, horizontal).

    Attributes:
        size: rows and columns from the first to the last pixel that an inner unit depends on; ``inf`` where the field
            grows with the image (global pooling, attention, linear layers on the whole map). If the field differs
            from unit to unit, as after up-sampling, or between channels, the largest.
        stride: how far the field moves from one unit to the next, on average; 0.0 where it is the whole image.
        offset: center of the field of unit 0, as if the image went on beyond its border: pixel 0 has its center at
            0.0, and a field that reaches into the padding may center on a negative number. NaN for the whole image.
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
    and attention need no special treatment. The image is doubled until inner units stay clear of its border and two
    sizes agree. Parameters and the module's mode are left as they are.

    Args:
        module: maps images ``(1, C, H, W)`` to one tensor: a map ``(1, C', h, w)``, or anything that sees all pixels.
        input_shape: ``(C, H, W)`` or ``(1, C, H, W)`` to start from, for a module that takes only certain sizes; by
            default found by trying.

    Returns:
        A `ReceptiveField`.

    Raises:
        TypeError: if ``module`` is no ``nn.Module``, or does not return one tensor.
        ValueError: if it does not take such an image, if its output is no map of the image, or if it takes only
            images that are too small to see a whole field.
        NotImplementedError: if it uses an operation that has no rule, or whose reach depends on pixel values.

    Source: Araujo, Norris and Sim (2019), Computing Receptive Fields of Convolutional Neural Networks, Distill,
    https://doi.org/10.23915/distill.00021; here without formulas for layers.

    >>> receptive_field(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3)))
    ReceptiveField(size=(7, 7), stride=(2.0, 2.0), offset=(2.0, 2.0))
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected an nn.Module, got {type(module).__name__}; wrap functions in a module")
    module = copy.deepcopy(module)  # what its forward changes in itself stays here
    with _evaluating(module):
        shape, now = _start(module, input_shape)
        before = now
        while max(shape[1:]) < LARGEST:
            larger = (shape[0], 2 * shape[1], 2 * shape[2])
            try:
                before, now = now, _measure(module, larger)
            except _DoesNotRun:
                grows = any(a.size != b.size and b.inside for a, b in zip(before, now, strict=True))
                if not grows and all(axis.inside or axis.covers for axis in now):
                    return _field([axis if axis.inside else WHOLE for axis in now])
                raise ValueError(
                    f"expected an image larger than the field, but the module takes only {shape}, of which inner units "
                    f"see up to {now[0].size} rows and {now[1].size} columns, cut off at the border; measure its parts"
                ) from None
            shape = larger
            certain = min(shape[1:]) >= CERTAIN
            if all(a == b and b.inside and (certain or b != WHOLE) for a, b in zip(before, now, strict=True)):
                return _field(now)
    return _field([b if a.size == b.size else WHOLE for a, b in zip(before, now, strict=True)])


def effective_receptive_field(module: nn.Module, images: Tensor | Sequence[int], *, seed: int = 0) -> Tensor:
    """How much each input pixel counts for the central unit of the output map.

    For each image, the gradient of the central unit with respect to the image, with output channels added under random
    signs; its absolute values, added over input channels, are averaged over the images and divided by their sum.

    Args:
        module: maps ``(B, C, H, W)`` to a map ``(B, C', h, w)``; runs in ``eval`` mode, which is restored afterwards.
        images: ``(B, C, H, W)`` float, or a shape ``(C, H, W)`` or ``(B, C, H, W)`` to be filled with normal noise.
        seed: of the signs and the noise.

    Returns:
        ``(H, W)``, non-negative, sum 1.

    Raises:
        TypeError: if ``module`` is no ``nn.Module``.
        ValueError: if the output is no map, or the gradient vanishes everywhere (a dead unit).

    Source: Luo, Li, Urtasun and Zemel (2016), Understanding the Effective Receptive Field in Deep Convolutional Neural
    Networks, section 3, https://arxiv.org/abs/1701.04128.

    >>> field = effective_receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)), (1, 9, 9))
    >>> field.shape, int((field > 0).sum())
    (torch.Size([9, 9]), 25)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected an nn.Module, got {type(module).__name__}; wrap functions in a module")
    generator = torch.Generator().manual_seed(seed)
    if not isinstance(images, Tensor):
        shape = tuple(images)
        if len(shape) not in (3, 4):
            raise ValueError(f"expected a shape (C, H, W) or (B, C, H, W), got {shape}")
        images = torch.randn(shape if len(shape) == 4 else (1, *shape), generator=generator)
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"expected float images (B, C, H, W), got {images.dtype} {tuple(images.shape)}")
    example = next(module.parameters(), images)
    with _evaluating(module), torch.enable_grad():
        inputs = images.detach().to(example.device, example.dtype).requires_grad_()
        outputs = module(inputs)
        if not isinstance(outputs, Tensor) or outputs.ndim != 4:
            what = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(f"expected a map (B, C, h, w) from the module, got {what}; leave out its head")
        central = outputs[:, :, outputs.shape[2] // 2, outputs.shape[3] // 2]
        signs = torch.randint(0, 2, central.shape, generator=generator).to(central) * 2 - 1
        (gradient,) = torch.autograd.grad((signs * central).sum(), inputs)
    field = gradient.abs().sum(1).mean(0)
    if not field.sum() > 0:
        raise ValueError("expected a unit that depends on the image, got a gradient of zero; use other images")
    return field / field.sum()


@dataclass(frozen=True)
class _Axis:
    """One axis of a field, measured in the middle of the map."""

    size: float
    stride: float
    offset: float
    inside: bool  # the units measured stay clear of the border, and stride and offset are certain
    covers: bool  # they see everything


WHOLE = _Axis(math.inf, 0.0, math.nan, True, True)


class _DoesNotRun(Exception):
    """The module failed by itself on an image of this shape."""


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _start(module: nn.Module, input_shape: Sequence[int] | None) -> tuple[tuple[int, ...], list[_Axis]]:
    """The first shape that the module takes, and what is seen there."""
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise ValueError("expected a module whose shapes are known, got a lazy one; run it once on an image first")
    if input_shape is not None:
        shape = tuple(input_shape)[-3:]
        if len(input_shape) not in (3, 4) or (len(input_shape) == 4 and input_shape[0] != 1) or min(shape) < 1:
            raise ValueError(f"expected input_shape (C, H, W) or (1, C, H, W), got {tuple(input_shape)}")
        shapes = [shape]
    else:
        keys = ("in_channels", "num_features", "num_channels")
        declared = [getattr(part, key) for part in module.modules() for key in keys if hasattr(part, key)]
        channels = dict.fromkeys([*declared[:1], 3, 1])
        shapes = [(c, side, side) for c in channels for side in SIZES]
    failures = []
    for shape in shapes:
        try:
            return shape, _measure(module, shape)
        except _DoesNotRun as failure:
            failures.append(_first_line(failure.__cause__))
    tried = f"images {shapes[0]}" + (f" and {len(shapes) - 1} other shapes" if len(shapes) > 1 else "")
    raise ValueError(f"expected a module that takes {tried}, got: {failures[0]}; give the input_shape that it takes")


def _measure(module: nn.Module, shape: tuple[int, ...]) -> list[_Axis]:
    """Run the module once on an empty image ``(C, H, W)`` and look at the units in the middle of its output."""
    kinds = [p.dtype for p in module.parameters() if p.is_floating_point()]
    image = torch.empty(1, *shape, device="meta", dtype=kinds[0] if kinds else None)
    with torch.no_grad(), CircularPadding(), Dependence(image) as seen:
        try:
            output = torch.func.functionalize(module)(image)
        except (NoRule, MemoryError):
            raise
        except NotImplementedError as error:
            raise NotImplementedError(
                f"expected a module whose operations do not depend on pixel values, got: {_first_line(error)}"
            ) from error
        except Exception as error:
            raise _DoesNotRun from error
    if not isinstance(output, Tensor):
        raise TypeError(
            f"expected a module that returns one tensor, got {type(output).__name__}; wrap it in one that picks"
        )
    if output not in seen.fields:
        raise ValueError("expected an output that depends on the image, got one that does not; check the module")
    fields = [np.asarray(field) for field in seen.fields[output]]
    if output.ndim != 4 and any(np.ptp(part) for field in fields for part in field):
        raise ValueError(
            f"expected a map (1, C, h, w) or one that sees all pixels, got {tuple(output.shape)}; leave out the head"
        )
    return [_axis(field, dim, n) for field, dim, n in zip(fields, (2, 3), shape[1:], strict=True)]


def _first_line(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _axis(field: np.ndarray, dim: int, n: int) -> _Axis:
    """Size, stride and offset along one axis; ``dim`` is the dim that should carry it."""
    lengths = list(field.shape[1:])
    if dim >= len(lengths) or lengths[dim] == 1:  # transposed, channels last, or nothing moves
        dim = int(np.argmax(lengths))
    if len(lengths) == 4 and dim >= 2:  # one unit is all channels at one place
        field = field.min(axis=2, keepdims=True)
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
        return _Axis(0, math.nan, math.nan, False, False)
    low, high = int(first[valid].min()), int(last[valid].max())
    stride, offset = _lattice(first + last, valid, start)
    inside = low > 0 and high < n - 1 and not math.isnan(stride)
    seen = sizes[start:stop][valid]
    return _Axis(int(seen.max()), stride, offset, inside, int(seen.min()) == n)


def _lattice(centers: np.ndarray, valid: np.ndarray, start: int) -> tuple[float, float]:
    """Mean stride and offset of twice the centers, which may advance by a pattern that repeats itself."""
    for period in range(1, min(64, (len(centers) - 1) // 2) + 1):
        steps = (centers[period:] - centers[:-period])[valid[:-period]]
        if (valid[period:] == valid[:-period]).all() and len(steps) and np.ptp(steps) == 0:
            stride = Fraction(int(steps[0]), 2 * period)
            places = [Fraction(int(centers[i]), 2) - (start + i) * stride for i in range(period) if valid[i]]
            return float(stride), float(sum(places, Fraction()) / len(places))
    return math.nan, math.nan


def _field(axes: list[_Axis]) -> ReceptiveField:
    rows, columns = axes
    return ReceptiveField((rows.size, columns.size), (rows.stride, columns.stride), (rows.offset, columns.offset))
