"""Looking inside a trained network: its feature maps, what excites a unit, and which pixels an answer depends on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cvbook._arguments import images, number, tensor, whole
from cvbook.convolution.receptive import ReceptiveField

__all__ = ["Response", "feature_maps", "grad_cam", "occlude", "seen_box", "strongest"]


def feature_maps(model: nn.Module, x: Tensor, layers: Iterable[nn.Module]) -> list[Tensor]:
    """What some layers of a model return for images ``(B, C, H, W)``, in the order of ``layers``.

    Raises:
        TypeError: if ``layers`` is no list of layers, or one of them returns no tensor.
        ValueError: if a layer does not run exactly once.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2))
    >>> [tuple(m.shape) for m in feature_maps(model, torch.zeros(1, 3, 16, 16), [model[0], model[1]])]
    [(1, 8, 16, 16), (1, 8, 8, 8)]
    """
    return _run(model, x, layers)[1]


def _run(model: nn.Module, x: Tensor, layers: Iterable[nn.Module]) -> tuple[Tensor, list[Tensor]]:
    images(x)
    if isinstance(layers, nn.Module) and not isinstance(layers, nn.ModuleList):
        raise TypeError(f"expected a list of layers, got one {type(layers).__name__}; write [layer]")
    layers = list(layers)
    for layer in layers:
        if not isinstance(layer, nn.Module):
            raise TypeError(
                f"expected a layer, an nn.Module, got {layer!r}; take a part of the model: model.features[0]"
            )
    kept: list[list[Tensor]] = [[] for _ in layers]

    def keep(layer: nn.Module, into: list[Tensor], output: Tensor) -> Tensor:
        if not isinstance(output, Tensor):
            what = f"a {type(output).__name__} from {type(layer).__name__}"
            raise TypeError(f"expected a layer that returns one tensor, got {what}; take a layer inside it")
        into.append(output)
        return output.clone()  # the next layer gets a copy: it may work in place

    hooks = []
    try:
        for part, into in zip(layers, kept, strict=True):
            hook = part.register_forward_hook(lambda layer, _inputs, output, into=into: keep(layer, into, output))
            hooks.append(hook)
        answer = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    for found in kept:
        if len(found) != 1:
            raise ValueError(f"expected a layer that runs once, got {len(found)} runs; take a part of this very model")
    return answer, [found[0] for found in kept]


def occlude(model: nn.Module, x: Tensor, *, patch: int, stride: int, fill: float = 0.0) -> Tensor:
    """The logits while a square patch covers one part of the image after another.

    Args:
        model: maps images ``(B, C, H, W)`` to logits ``(B, K)``; call ``eval()`` first.
        x: one image ``(1, C, H, W)``.
        patch: side of the square in pixels; it stays inside the image.
        stride: how far it moves, in pixels.
        fill: the value of covered pixels, on the scale of ``x``.

    Returns:
        ``(rows, columns, K)``; at ``[i, j]`` the patch begins at row ``stride * i`` and column ``stride * j``.

    Raises:
        TypeError: if a number is none.
        ValueError: if ``x`` is not one image, the patch does not fit, or ``fill`` is not finite.

    Source: Zeiler & Fergus 2014, section 4.2, https://arxiv.org/abs/1311.2901.

    >>> occlude(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), torch.zeros(1, 1, 8, 8), patch=4, stride=2).shape
    torch.Size([3, 3, 5])
    """
    B, _, H, W = images(x)
    if B != 1:
        raise ValueError(f"expected one image (1, C, H, W), got {B}; cover them one by one: x[:1]")
    if not 1 <= whole("patch", patch) <= min(H, W) or whole("stride", stride) < 1:
        raise ValueError(f"expected 1 <= patch <= {min(H, W)} and stride >= 1, got {patch} and {stride}")
    if not math.isfinite(number("fill", fill)):
        raise ValueError(f"expected a finite fill, got {fill}; 0 is grey for prepared images")
    tops, lefts = range(0, H - patch + 1, stride), range(0, W - patch + 1, stride)
    rows = []
    with torch.no_grad():
        for top in tops:
            covered = x.repeat(len(lefts), 1, 1, 1)  # a fresh copy for each position: one patch at a time
            for image, left in zip(covered, lefts, strict=True):
                image[:, top : top + patch, left : left + patch] = fill
            rows.append(torch.cat([model(part) for part in covered.split(6)]))  # more at once is slower on a CPU
    return torch.stack(rows)


@torch.enable_grad()
def grad_cam(model: nn.Module, x: Tensor, target: int, layer: nn.Module, *, relu: bool = True) -> Tensor:
    """Grad-CAM: the feature maps of a layer, weighted by the mean gradient of a logit in each, added, and rectified.

    Args:
        model, x: as in `occlude`.
        target: the class, 0 to K - 1.
        layer: a part of the model that returns a map ``(1, channels, h, w)``; usually the last that does.
        relu: False returns the sum as it is before the ReLU, with its negative part.

    Returns:
        ``(h, w)`` without gradient; the parameters' ``grad`` stays as it is.

    Raises:
        RuntimeError: inside ``torch.inference_mode()``, where there are no gradients.
        ValueError: if ``x`` is not one image, the model returns no logits ``(1, K)``, there is no such class, the layer
            returns no map, or the logits do not depend on it.

    Source: Selvaraju et al. 2017, section 3, https://arxiv.org/abs/1610.02391.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    >>> grad_cam(model, torch.zeros(1, 3, 16, 16), 2, model[1]).shape
    torch.Size([14, 14])
    """
    if images(x)[0] != 1:
        raise ValueError(f"expected one image (1, C, H, W), got {len(x)}; take one: x[:1]")
    if torch.is_inference_mode_enabled():
        raise RuntimeError("expected that gradients can be computed, got torch.inference_mode(); call grad_cam outside")
    logits, (maps,) = _run(model, x.detach().requires_grad_(), [layer])
    if logits.ndim != 2:
        raise ValueError(
            f"expected logits (1, K) from the model, got {tuple(logits.shape)}; end it with Flatten, Linear"
        )
    if maps.ndim != 4:
        raise ValueError(f"expected a layer that returns a map (1, C, h, w), got {tuple(maps.shape)}; try another")
    if not 0 <= whole("target", target) < logits.shape[1]:
        raise ValueError(f"expected a class from 0 to {logits.shape[1] - 1}, got {target}; use categories.index(name)")
    gradient = torch.autograd.grad(logits[0, target], maps, allow_unused=True)[0] if logits.requires_grad else None
    if gradient is None:
        raise ValueError(
            "expected a layer that the logits depend on, got one whose map is not used; take another layer"
        )
    weights = gradient.mean((2, 3), keepdim=True)  # (1, channels, 1, 1)
    heat = (weights * maps).sum(1)[0].detach()  # (h, w)
    return heat.relu() if relu else heat


class Response(NamedTuple):
    """A response of a unit: its value, the number of the image, the row and the column on the map."""

    value: float
    image: int
    row: int
    column: int


def strongest(maps: Sequence[Tensor], count: int) -> list[Response]:
    """The ``count`` images on which one channel is largest, with the place; maps are ``(h, w)``, of any sizes.

    Raises:
        TypeError: if a map is no tensor, or ``count`` no whole number.
        ValueError: if a map is not ``(h, w)`` or empty, or ``count`` is less than 1.

    >>> strongest([torch.tensor([[0.0, 5], [4, 0]]), torch.tensor([[0.0, 1]]), torch.tensor([[3.0]])], 2)
    [Response(value=5.0, image=0, row=0, column=1), Response(value=3.0, image=2, row=0, column=0)]
    """
    if whole("count", count) < 1:
        raise ValueError(f"expected count >= 1, got {count}")
    for m in maps:
        if tensor("a map", m).ndim != 2 or not m.numel():
            raise ValueError(
                f"expected maps (h, w) of one channel, got {tuple(m.shape)}; choose a channel: maps[0, channel]"
            )
    tops = (Response(float(m.max()), i, *divmod(int(m.argmax()), m.shape[1])) for i, m in enumerate(maps))
    return sorted(tops, reverse=True)[:count]


def seen_box(field: ReceptiveField, row: int, column: int) -> tuple[float, ...]:
    """Top, left, height and width, in pixels, of what the unit at a row and a column sees; a border may be negative.

    For layers that pad as TensorFlow does (`cvbook.cnns.efficientnet_lite`), it is exact if the stride divides both
    sides of the image; otherwise the padding moves the box by some pixels.

    >>> seen_box(ReceptiveField(size=(5, 5), stride=(2.0, 2.0), offset=(2.0, 2.0)), 1, 3)
    (2.0, 6.0, 5.0, 5.0)
    """
    centers = [at + step * i for at, step, i in zip(field.offset, field.stride, (row, column), strict=True)]
    return *(c - (n - 1) / 2 for c, n in zip(centers, field.size, strict=True)), *map(float, field.size)
