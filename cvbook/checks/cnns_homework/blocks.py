"""Checks of the homework on convolutional networks, exercise 3: a bottleneck with groups, a shortcut for free."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck as Reference

from cvbook.checks.answers import Mistakes, called, random_statistics, tensor
from cvbook.checks.cnns_homework.budgets import draw
from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["bottleneck", "padded_shortcut"]


@exercise("Exercise 3, the bottleneck")
def bottleneck(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(in_channels, inner, out_channels, stride, groups)`` is a module; torchvision's weights are copied in."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for channels, per_group, planes, stride, groups in (
        (6, 3, 2, 2, 2), (8, 2, 2, 1, 3), (8, 5, 2, 2, 1), (5, 1, 3, 1, draw(g, 2, 4)),
    ):  # fmt: skip
        theirs, inner, out = _reference(channels, per_group, planes, stride, groups), per_group * groups, 4 * planes
        what = f"bottleneck({channels}, {inner}, {out}, stride={stride}, groups={groups})"
        mine = answer(channels, inner, out, stride, groups)
        if mine is None or mine is ...:
            raise NotImplementedError
        if not isinstance(mine, nn.Module):
            raise Wrong(f"expected an nn.Module from {what}, got {'a ' + type(mine).__name__}")
        if isinstance(mine, Reference):
            raise Wrong("this is torchvision's block; build your own from nn.Module")
        _same_parts(mine, theirs, what)
        mine.load_state_dict(theirs.state_dict())
        for training in (False, True):
            x = torch.randn(4, channels, 8, 7, generator=g)
            mode = f"{what} in {'train' if training else 'eval'} mode"
            wrong = {sentence: functools.partial(_forward, copy.deepcopy(theirs.train(training)), x, f)
                     for sentence, f in MISTAKES.items()}  # fmt: skip
            with torch.no_grad():
                got = tensor(called(mine.train(training), x=x), mode)
                equal(got, theirs(x.clone()), mistakes=wrong, what=mode)
    return "right: equal to torchvision's block, with groups, stride and projection, in both modes"


def _reference(channels: int, per_group: int, planes: int, stride: int, groups: int) -> Reference:
    """Torchvision's block with random scales, offsets and running statistics; it has 4 ``planes`` channels."""
    out, projection = 4 * planes, None
    if stride != 1 or channels != out:
        projection = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
    # torchvision states the width for 64 planes
    block = Reference(channels, planes, stride, projection, groups, base_width=-(-64 * per_group // planes))
    return random_statistics(block)


def _same_parts(mine: nn.Module, theirs: nn.Module, what: str) -> None:
    ours, given = mine.state_dict(), theirs.state_dict()
    if not ours:
        raise Wrong(f"{what} has no parameters; create the layers in __init__, as attributes of self")
    for name, right in given.items():
        if name not in ours:
            if name.startswith("downsample.1") and "downsample.0.weight" in ours:
                raise Wrong("a projection is a 1x1 convolution and a normalization: downsample.1 is missing")
            if name.startswith("downsample"):
                raise Wrong(
                    f"{what} changes the shape and has no part named downsample; give the shortcut a projection of "
                    "this name"
                )
            raise Wrong(f"expected a part named {name.rsplit('.', 1)[0]}; {what} has none")
        if ours[name].shape != right.shape:
            shapes = f"{name} should have shape {tuple(right.shape)}, not {tuple(ours[name].shape)}"
            grouped = name == "conv2.weight" and ours[name].shape[1] != right.shape[1]
            raise Wrong(f"{what}: {shapes}{'; groups=groups belongs to conv2' if grouped else ''}")
    for name in ours:
        if name not in given:
            if name.startswith("downsample"):
                raise Wrong(f"{what}: nothing has to be projected, so downsample is None, and x is added as it is")
            if name.endswith("bias"):
                raise Wrong(f"{name}: in front of a normalization a convolution needs no bias (bias=False)")
            raise Wrong(f"{what}: {name} is one part too many")


def _forward(block: Any, x: Tensor, wrong: str) -> Tensor:
    """The block, with one thing wrong."""
    if wrong == "first":
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    if wrong == "third":
        block.conv3.stride, block.conv2.stride = block.conv2.stride, block.conv3.stride
    relu: Callable[[Tensor], Tensor] = F.relu
    with torch.no_grad():
        y = block.conv1(x) if wrong == "bn1" else block.bn1(block.conv1(x))
        y = y if wrong in ("relu1", "inner") else relu(y)
        y = block.bn2(block.conv2(y))
        y = y if wrong in ("relu2", "inner") else relu(y)
        y = block.conv3(y) if wrong == "bn3" else block.bn3(block.conv3(y))
        if wrong in ("early", "early, none after"):
            y = relu(y)
        way = x
        if block.downsample is not None:
            way = block.downsample[0](x) if wrong == "projection" else block.downsample(x)
        way = relu(way) if wrong == "shortcut" else way
        y = y if wrong == "no shortcut" else y + way
        return y if wrong in ("late", "early, none after") else relu(y)


MISTAKES = {
    "the stride is at conv1; torchvision has it at conv2, where no pixel is skipped unseen": "first",
    "the stride is at conv3; torchvision has it at conv2": "third",
    "the ReLU after the addition is missing": "late",
    "a ReLU comes before the addition, so the branch can never subtract; it belongs after it": "early, none after",
    "a ReLU comes before the addition, so the branch can never subtract; it belongs after it only": "early",
    "the projection is not normalized: downsample has two parts": "projection",
    "the shortcut passes a ReLU before the addition": "shortcut",
    "the shortcut is missing": "no shortcut",
    "both ReLUs inside the branch are missing": "inner",
    "the ReLU after bn1 is missing": "relu1",
    "the ReLU after bn2 is missing": "relu2",
    "bn1 is never used": "bn1",
    "bn3 is never used: the branch is normalized before the addition": "bn3",
}


@exercise("Exercise 3, a shortcut without parameters")
def padded_shortcut(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(x, out_channels, stride)``: every stride-th pixel, and zeros for the channels that are new."""
    g = torch.Generator().manual_seed(seed)
    for B, C, out, stride in ((2, 3, 6, 2), (2, 4, 5, 3), (3, 2, 2, 2), (2, 3, 3 + draw(g, 1, 5), 1), (1, 1, 3, 2)):
        x = torch.randn(B, C, 7 + draw(g, 0, 2), 6, generator=g)
        right = torch.zeros(B, out, -(-x.shape[2] // stride), -(-x.shape[3] // stride))
        for i, j in torch.cartesian_prod(*map(torch.arange, right.shape[2:])).tolist():
            right[:, :C, i, j] = x[:, :, stride * i, stride * j]
        got = called(answer, x=x, out_channels=out, stride=stride)
        what = f"{tuple(x.shape)}, {out} channels and stride {stride}"
        equal(tensor(got, what), right, mistakes=_shortcut_mistakes(x, out, stride), what=what)
    return "right: it costs nothing, and no parameter learns anything"


def _shortcut_mistakes(x: Tensor, out: int, s: int) -> Mistakes:
    B, C, new = len(x), x.shape[1], out - x.shape[1]
    sub = x[:, :, ::s, ::s]

    def padded(t: Tensor) -> Tensor:
        return F.pad(t, (0, 0, 0, 0, 0, new))

    return {
        "the zeros stand in front; the old channels come first": lambda: F.pad(sub, (0, 0, 0, 0, new, 0)),
        "half of the zeros stand in front; the old channels come first": (
            lambda: F.pad(sub, (0, 0, 0, 0, new // 2, new - new // 2))
        ),
        "new channels are copies of old ones; they are zero": lambda: torch.cat([sub] * (-(-out // C)), 1)[:, :out],
        "the pixels are averaged; take every stride-th one as it is": (
            lambda: padded(F.avg_pool2d(x, s, s, ceil_mode=True))
        ),
        "the pixels are averaged; take every stride-th one, also the one at the end": lambda: padded(
            F.avg_pool2d(x, s)
        ),
        "the largest pixel is taken; take every stride-th one as it is": (
            lambda: padded(F.max_pool2d(x, s, s, ceil_mode=True))
        ),
        "the first pixel is skipped: begin at index 0": lambda: padded(x[:, :, s - 1 :: s, s - 1 :: s]),
        "only rows are skipped; columns have the same stride": lambda: padded(x[:, :, ::s]),
        "only columns are skipped; rows have the same stride": lambda: padded(x[..., ::s]),
        "the stride is ignored": lambda: padded(x),
        "the channels are not padded": lambda: sub,
        "out_channels zeros are appended; append as many as are missing": lambda: F.pad(sub, (0, 0, 0, 0, 0, out)),
        "zeros surround the map; the channels need them": lambda: F.pad(sub, (new, new, new, new)),
        "the new channels are ones; they are zero": lambda: torch.cat([sub, sub.new_ones(B, new, *sub.shape[2:])], 1),
    }
