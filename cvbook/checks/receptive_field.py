"""Checks for the lesson on the receptive field."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cvbook.checks.verdict import Wrong, equal, exercise
from cvbook.convolution.receptive import receptive_field

__all__ = ["branches", "center", "dilated", "gradient_map", "layers_needed", "stack"]

Layers = Sequence[tuple[int, ...]]
Mistakes = list[tuple[str, Callable[[Any], object]]]  # what to say, and what this mistake returns

STACKS: list[Layers] = [
    [(3, 1, 1)],
    [(11, 4, 1), (3, 2, 1), (5, 1, 1)],
    [(3, 1, 2), (2, 2, 1), (3, 1, 4), (5, 3, 2)],
    [(7, 2, 1), (3, 2, 1), (1, 2, 1), (3, 1, 1)],
]


@exercise("How many 3x3 layers see 224 pixels")
def layers_needed(answer: int) -> str:
    """A whole number: the least n with 2n + 1 >= 224."""
    if answer == 111:
        raise Wrong("111 layers see 223 pixels, one too few: 2n + 1 must be at least 224")
    if answer in (74, 75):
        raise Wrong("a layer adds k - 1 = 2 pixels, not 3, because neighboring windows overlap")
    if answer == 224 / 2:
        return "right: 2 x 112 + 1 = 225"
    if answer == 111.5:
        raise Wrong("there is no half a layer; round up")
    raise Wrong(f"expected the least n with 1 + 2n >= 224, got {answer}")


@exercise("Field of a stack")
def stack(answer: Callable[[Layers], tuple[int, int]]) -> str:
    """``answer([(kernel, stride, dilation), ...])`` is (size, stride)."""
    mistakes: Mistakes = [
        (
            "the stride of a layer counts only for the layers after it: grow the size first, then multiply",
            lambda layers: _recursion(layers, late=False),
        ),
        (
            "dilation is ignored: a dilated kernel reaches d(k - 1) + 1 pixels",
            lambda layers: _recursion([(k, s, 1) for k, s, _ in layers]),
        ),
        (
            "the strides of earlier layers are ignored: k - 1 steps are worth (k - 1) times their product",
            lambda layers: (_recursion([(k, 1, d) for k, _, d in layers])[0], _recursion(layers)[1]),
        ),
        (
            "each layer adds k - 1, not k: neighboring windows overlap",
            lambda layers: (_recursion([(k + 1, s, d) for k, s, d in layers])[0], _recursion(layers)[1]),
        ),
        (
            "the first value is too small by one: a single pixel has size 1, so start from 1",
            lambda layers: (_recursion(layers)[0] - 1, _recursion(layers)[1]),
        ),
        ("size and stride are swapped", lambda layers: _recursion(layers)[::-1]),
    ]
    _compare(answer, STACKS, _recursion, mistakes, "the layers")
    return "right, also with stride and dilation"


@exercise("Field of branches")
def branches(answer: Callable[[Sequence[Layers]], int]) -> str:
    """``answer([layers, layers, ...])`` is the size for branches with a common center that are added."""
    cases = [
        [[(3, 1, 1)], [(1, 1, 1)], [(7, 1, 1)], [(5, 1, 1)]],
        [[(5, 1, 1)], [(1, 1, 1)], [(3, 1, 3)], [(3, 1, 1)]],
        [[(7, 1, 1)], [(3, 1, 1), (1, 1, 1)]],
        [[(3, 2, 1), (3, 1, 1)], [(3, 2, 1)]],
        [[], [(3, 1, 1)]],
    ]
    mistakes: Mistakes = [
        ("branches run side by side: their sizes are not added up, the widest one counts", lambda b: sum(_sizes(b))),
        ("this puts the branches one after the other", lambda b: _recursion([layer for one in b for layer in one])[0]),
        ("this is the narrowest branch; the sum of branches sees what any of them sees", lambda b: min(_sizes(b))),
        ("only the first branch counts here; take all of them", lambda b: _sizes(b)[0]),
        ("only the last branch counts here; take all of them", lambda b: _sizes(b)[-1]),
        (
            "this is the branch with the most layers; compare sizes, not numbers of layers",
            lambda b: _recursion(max(b, key=len))[0],
        ),
    ]
    _compare(answer, cases, lambda b: max(_sizes(b)), mistakes, "the branches")
    return "right: the widest branch decides"


@exercise("Center of a field")
def center(answer: Callable[[Layers], float]) -> str:
    """``answer([(kernel, stride, dilation, padding), ...])`` is the center of unit 0's field."""
    cases = [
        [(3, 1, 1, 0)],
        [(3, 1, 1, 1), (2, 2, 1, 0)],
        [(11, 4, 1, 2), (3, 2, 1, 0), (5, 1, 1, 2)],
        [(3, 2, 2, 1), (4, 3, 1, 0), (3, 1, 1, 1)],
        [(4, 2, 3, 1), (2, 1, 1, 0)],
    ]
    half = "the middle of pixels 0 ... k - 1 is (k - 1)/2, not k/2 and not k // 2"
    floor = "floor division loses half a pixel: the middle of an even kernel lies between two pixels, so divide by / 2"
    mistakes: Mistakes = [
        ("padding is ignored: it moves the center back by p steps", _shifted(lambda k, d, p: d * (k - 1) / 2)),
        ("padding moves the field towards the border: subtract it", _shifted(lambda k, d, p: d * (k - 1) / 2 + p)),
        (
            "the stride of a layer counts only for the layers after it: move first, then multiply",
            lambda layers: _offset(layers, late=False),
        ),
        ("dilation is ignored: the middle of the kernel is at d(k - 1)/2", _shifted(lambda k, d, p: (k - 1) / 2 - p)),
        (half, _shifted(lambda k, d, p: d * k / 2 - p)),
        (half, _shifted(lambda k, d, p: d * (k // 2) - p)),
        (half, _shifted(lambda k, d, p: d * k // 2 - p)),
        (floor, _shifted(lambda k, d, p: d * (k - 1) // 2 - p)),
        (floor, _shifted(lambda k, d, p: d * ((k - 1) // 2) - p)),
        ("the middle of the kernel is half its reach, d(k - 1)/2", _shifted(lambda k, d, p: d * (k - 1) - p)),
        (
            "padding counts in steps too: multiply it by the stride so far",
            lambda layers: _offset([(k, s, d, 0) for k, s, d, _ in layers]) - sum(p for *_, p in layers),
        ),
        (
            "the strides of earlier layers are ignored: one step of a layer is worth their product in pixels",
            lambda layers: _offset([(k, 1, d, p) for k, _, d, p in layers]),
        ),
        ("this is the first pixel of the field, not its center", _shifted(lambda k, d, p: -p)),
    ]
    _compare(answer, cases, _offset, mistakes, "the layers")
    return "right"


@exercise("A wider field at no cost")
def dilated(answer: nn.Module) -> str:
    """Four 3x3 convolutions, 1 channel each, that see 31 x 31 pixels and keep the size of the map."""
    if not isinstance(answer, nn.Module):
        raise Wrong(f"expected an nn.Module, got {type(answer).__name__}")
    count = sum(p.numel() for p in answer.parameters())
    convolutions = [part for part in answer.modules() if isinstance(part, nn.Conv2d)]
    if len(convolutions) != 4 or any(part.kernel_size != (3, 3) for part in convolutions):
        raise Wrong(f"expected four 3x3 convolutions, got {[part.kernel_size for part in convolutions]}")
    if any(part.stride != (1, 1) for part in convolutions):
        raise Wrong("a stride makes the field wider, but the map smaller; keep stride 1")
    if count > 40:
        raise Wrong(f"expected at most 40 parameters, got {count}; use one channel")
    size = receptive_field(answer).size
    if size != (31, 31):
        raise Wrong(f"this network sees {size[0]} x {size[1]} pixels, not 31 x 31; with dilation d a layer adds 2 d")
    shape = tuple(answer(torch.zeros(1, 1, 40, 40)).shape[-2:])
    if shape != (40, 40):
        raise Wrong(f"the map shrinks from 40 x 40 to {shape[0]} x {shape[1]}; pad each layer by its dilation")
    praise = "right: 31 x 31 pixels with the parameters of a 9 x 9 stack"
    probe = copy.deepcopy(answer)
    for parameter in probe.parameters():
        nn.init.ones_(parameter)
    image = torch.ones(1, 1, 41, 41, requires_grad=True)
    (gradient,) = torch.autograd.grad(probe(image)[0, 0, 20, 20], image)
    read = int((gradient != 0).sum())
    if read < 31 * 31:
        praise += f", but it reads only {read} of these {31 * 31} pixels: dilations that grow too fast leave holes"
    return praise


@exercise("Gradient map")
def gradient_map(answer: Callable[[nn.Module, Tensor], Tensor]) -> str:
    """``answer(net, images)`` is the mean absolute gradient of the central unit's channel sum, divided by its sum."""
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3))
    images = torch.randn(4, 2, 10, 12)  # the map has 6 x 8 units, so its middle is no unit, and not that of the image
    maps = _gradients(net, images)

    def normal(field: Tensor) -> Tensor:
        return field / field.sum()

    equal(
        answer(copy.deepcopy(net), images.clone()),
        normal(maps.abs().sum(1).mean(0)),
        what="a network with 2 input channels and 4 images",
        mistakes={
            "divide by the sum, so that the weights add up to 1": lambda: maps.abs().sum(1).mean(0),
            "divide by the sum, not by the largest value": (
                lambda: maps.abs().sum(1).mean(0) / maps.abs().sum(1).mean(0).max()
            ),
            "take absolute values before averaging, or opposite signs cancel": lambda: normal(maps.sum(1).mean(0)),
            "take absolute values before adding channels and images, not after": lambda: normal(
                maps.sum(1).mean(0).abs()
            ),
            "this is the unit in the corner; the central one is at (h // 2, w // 2)": (
                lambda: normal(_gradients(net, images, unit=(0, 0)).abs().sum(1).mean(0))
            ),
            "an even map has no unit in its middle; take the one at (h // 2, w // 2), not at ((h - 1) // 2, ...)": (
                lambda: normal(_gradients(net, images, unit=(2, 3)).abs().sum(1).mean(0))
            ),
            "h and w are those of the output, not of the image: the map is smaller": (
                lambda: normal(_gradients(net, images, unit=(5, 6)).abs().sum(1).mean(0))
            ),
            "this is the gradient of all units together; differentiate one": (
                lambda: normal(_gradients(net, images, everything=True).abs().sum(1).mean(0))
            ),
            "only the first image counts here; average over all": lambda: normal(maps[0].abs().sum(0)),
            "only the first channel counts here; add all channels": lambda: normal(maps.abs()[:, 0].mean(0)),
        },
    )
    return "right"


def _compare(
    answer: Callable[[Any], object],
    cases: Sequence[Any],
    right: Callable[[Any], object],
    mistakes: Mistakes,
    what: str,
) -> None:
    """Compare the answers to all cases; a mistake is named only if it explains the answers to every one of them."""

    ways: dict[str, list[Callable[[Any], object]]] = {}
    for sentence, wrong in mistakes:
        ways.setdefault(sentence, []).append(wrong)

    def explains(wrong: Callable[[Any], object]) -> bool:
        return all(_agree(answer(copy.deepcopy(case)), wrong(case)) for case in cases)

    def result(wrongs: list[Callable[[Any], object]], case: Any) -> Callable[[], object]:
        return lambda: next(wrong(case) for wrong in wrongs if explains(wrong))

    for case in cases:
        equal(
            answer(copy.deepcopy(case)),  # a copy: an answer may empty its list
            torch.as_tensor(right(case)),
            what=f"{what} {case}",
            mistakes={sentence: result(wrongs, case) for sentence, wrongs in ways.items()},
        )


def _agree(a: Any, b: Any) -> bool:
    return torch.allclose(torch.as_tensor(a).double(), torch.as_tensor(b).double())


def _sizes(several: Sequence[Layers]) -> list[int]:
    return [_recursion(layers)[0] for layers in several]


def _recursion(layers: Layers, *, late: bool = True) -> tuple[int, int]:
    size = jump = 1
    for kernel, stride, dilation in layers:
        if not late:
            jump *= stride
        size += (kernel - 1) * dilation * jump
        if late:
            jump *= stride
    return size, jump


def _offset(layers: Layers, *, late: bool = True) -> float:
    offset, jump = 0.0, 1
    for kernel, stride, dilation, padding in layers:
        if not late:
            jump *= stride
        offset += ((kernel - 1) * dilation / 2 - padding) * jump
        if late:
            jump *= stride
    return offset


def _shifted(steps: Callable[[int, int, int], float]) -> Callable[[Layers], float]:
    """The center if a layer moved it by ``steps(kernel, dilation, padding)``."""

    def wrong(layers: Layers) -> float:
        offset, jump = 0.0, 1
        for kernel, stride, dilation, padding in layers:
            offset += steps(kernel, dilation, padding) * jump
            jump *= stride
        return offset

    return wrong


def _gradients(
    net: nn.Module, images: Tensor, *, unit: tuple[int, int] | None = None, everything: bool = False
) -> Tensor:
    x = images.clone().requires_grad_()
    y = net(x)
    row, column = unit or (y.shape[2] // 2, y.shape[3] // 2)
    target = y.sum() if everything else y[:, :, row, column].sum()
    return torch.autograd.grad(target, x)[0]
