"""The receptive field of every layer of a network, from the same few runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from cvbook._arguments import whole
from cvbook.convolution.dependence import Dependence
from cvbook.convolution.measuring import WHOLE, Axis, is_map, look
from cvbook.convolution.receptive import CERTAIN, LARGEST, ReceptiveField
from cvbook.convolution.running import DoesNotRun, dtype, evaluating, first_line, run

__all__ = ["layer_fields"]

Fields = list[tuple[str, list[Axis] | None]]


def layer_fields(module: nn.Module, input_shape: Sequence[int]) -> list[tuple[str, ReceptiveField | None]]:
    """The theoretical receptive field of every map inside a network, in the order in which the maps are computed.

    Works as `receptive_field` does, on all maps at once. A network that takes no image but ``input_shape`` is measured
    there; fields that its border may cut off are then given as None.

    Args:
        module: takes one image ``(1, C, H, W)``; its mode and its parameters are left as they are.
        input_shape: ``(C, H, W)`` that it takes; the measurements take larger ones, if possible.

    Returns:
        One entry for each time that a part of the module was called: its name, and the field of its (first) output, or
        None if that is no map of the image.

    Raises:
        TypeError: if ``module`` is no ``nn.Module``, or ``input_shape`` no sequence of whole numbers.
        ValueError: if ``input_shape`` is no such shape, or the module does not take such an image.
        NotImplementedError: if it uses an operation that has no rule, or whose reach depends on pixel values.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3))
    >>> [(name, field.size) for name, field in layer_fields(model, (3, 32, 32))]
    [('0', (3, 3)), ('1', (4, 4)), ('2', (8, 8)), ('', (8, 8))]
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected an nn.Module, got {type(module).__name__}; wrap functions in a module")
    shape = tuple(whole("each number of input_shape", side) for side in input_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"expected input_shape (C, H, W) of positive numbers, got {shape}; give such a tuple")
    channels, height, width = shape
    scale = max(2, math.ceil(CERTAIN / min(height, width)))

    def larger(times: int) -> Fields:
        return _measure_all(module, (channels, height * times, width * times))

    with evaluating(module):
        try:
            before, now = larger(scale // 2), larger(scale)
            while not _settled(before, now) and max(height, width) * scale < LARGEST:
                scale *= 2
                before, now = now, larger(scale)
        except DoesNotRun:
            try:
                return [(name, _if_certain(axes)) for name, axes in _measure_all(module, shape)]
            except DoesNotRun as failure:
                reason = first_line(failure.__cause__)
                raise ValueError(f"expected a module that takes images {shape}, got: {reason}; give another") from None
    return [(name, _decide(first, axes)) for (_, first), (name, axes) in zip(before, now, strict=True)]


class _Listening(nn.Module):
    """Runs a module, and returns copies of all that its parts return, in the order in which they end.

    Args:
        report: called with the name of each part that has ended.
    """

    def __init__(self, module: nn.Module, report: Callable[[str], None]) -> None:
        super().__init__()
        self.module, self.report = module, report

    def forward(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []

        def keep(name: str, output: object) -> None:
            tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
            self.report(name)
            maps.append(tensors[0].clone() if tensors else image.new_zeros(1))  # later steps may work in place

        hooks = [
            part.register_forward_hook(lambda _part, _inputs, output, name=name: keep(name, output))
            for name, part in self.module.named_modules()
        ]
        try:
            self.module(image)
        finally:
            for hook in hooks:
                hook.remove()
        return maps


def _measure_all(module: nn.Module, shape: tuple[int, ...]) -> Fields:
    """Run once on an empty image ``(C, H, W)``."""
    image = torch.empty(1, *shape, device="meta", dtype=dtype(module))
    seen = Dependence(image, (0, 1))
    names: list[str] = []
    maps = run(_Listening(module, names.append), image, seen)
    return [(name, _axes(map_, seen, shape)) for name, map_ in zip(names, maps, strict=True)]


def _axes(output: Tensor, seen: Dependence, shape: tuple[int, ...]) -> list[Axis] | None:
    """Both axes of the field of a tensor; None if it is no map, or does not depend on the image."""
    if output not in seen.fields or not is_map(output, seen.fields[output]):
        return None
    return [look(field, 2 + axis, shape[1 + axis]) for axis, field in enumerate(seen.fields[output])]


def _field(axes: list[Axis]) -> ReceptiveField:
    rows, columns = axes
    return ReceptiveField((rows.size, columns.size), (rows.stride, columns.stride), (rows.offset, columns.offset))


def _settled(before: Fields, now: Fields) -> bool:
    """Whether no field touches the border of the larger image, nor has grown with it."""
    return all(
        not (first and axes) or all(b.inside and _same(a, b) for a, b in zip(first, axes, strict=True))
        for (_, first), (_, axes) in zip(before, now, strict=True)
    )


def _same(small: Axis, large: Axis) -> bool:
    """Whether both images tell the same; a field that the border of the smaller one cut off may have another size."""
    return small == large or small.size == large.size or (large.inside and not small.inside)


def _decide(small: list[Axis] | None, large: list[Axis] | None) -> ReceptiveField | None:
    """What two sizes of the image tell: a field that goes on growing with the image is all of it."""
    if small is None or large is None:
        return None
    return _field([b if _same(a, b) else WHOLE for a, b in zip(small, large, strict=True)])


def _if_certain(axes: list[Axis] | None) -> ReceptiveField | None:
    """What one size of the image tells: fields clear of its border, and those that cover all of it."""
    if axes is None or not all(axis.clear or axis.covers for axis in axes):
        return None
    return _field([WHOLE if axis.covers else axis for axis in axes])
