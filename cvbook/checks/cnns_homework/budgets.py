"""Checks of the homework on convolutional networks, exercise 1: what a network costs, and what it has to remember."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cvbook.checks.answers import called, explained, number, parts
from cvbook.checks.verdict import Wrong, exercise

__all__ = ["draw", "exactly", "multiply_adds", "parameters", "whole"]

Shape = tuple[int, int, int]
Case = tuple[list[nn.Module], Shape]


def draw(g: torch.Generator, low: int, high: int) -> int:
    """A random whole number, both ends included."""
    return int(torch.randint(low, high + 1, (), generator=g))


def whole(value: Any, what: str) -> int:
    """One whole number of an answer.

    Raises:
        NotImplementedError: if it is ``None`` or ``...``.
        Wrong: if it is something else.
    """
    found = number(value, what)
    if found != round(found):
        raise Wrong(f"expected a whole number for {what}, got {found:.6g}")
    return round(found)


def exactly(
    got: Sequence[int], right: Sequence[int], mistakes: Mapping[str, Callable[[int], object]], texts: Sequence[str]
) -> None:
    """Compare whole numbers for several cases; a mistake must explain all of them.

    Args:
        got, right: one number for each case.
        mistakes: sentence -> function of the case's place in the list, what this mistake would give.
        texts: each case in words.

    Raises:
        Wrong: if one of them differs.
    """
    if list(got) == list(right):
        return
    for sentence, wrong in mistakes.items():
        if [wrong(place) for place in range(len(right))] == list(got):
            raise Wrong(sentence)
    place = next(i for i, (a, b) in enumerate(zip(got, right, strict=True)) if a != b)
    raise Wrong(f"for {texts[place]}, expected {right[place]:,}, got {got[place]:,}")


EXCHANGED = "the two results are exchanged: (parameters, multiply_adds)"


def _networks(seed: int) -> list[Case]:
    """Random chains: rectangles, strides, dilation, groups, with and without biases; with and without a head."""
    g, cases = torch.Generator().manual_seed(seed), []
    for with_head in (False, True, True, False):
        C, H, W = 2 * draw(g, 1, 3), draw(g, 15, 20), 2 * draw(g, 11, 13)  # the stride leaves a column over
        wide, groups = 4 * draw(g, 1, 3), 2
        layers: list[nn.Module] = [
            nn.Conv2d(C, wide, (3, 5), stride=(1, 2), padding=(2, 1), bias=draw(g, 0, 1) == 1),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=(1, 2), groups=wide, bias=False),
            nn.MaxPool2d(*[(2, 2), (3, 2)][draw(g, 0, 1)]),
            nn.Conv2d(wide, 2 * wide, (3, 2), padding=1, dilation=(2, 1), groups=groups),
        ]
        if with_head:
            with torch.no_grad():
                side = nn.Sequential(*layers)(torch.zeros(1, C, H, W))[0].numel()
            layers += [nn.Flatten(), nn.Linear(side, 9), nn.ReLU(), nn.Linear(9, draw(g, 2, 5), bias=False)]
        cases.append((layers, (C, H, W)))
    return cases


BIASES = {"'NoneType' object has no attribute": "a layer without biases has bias None; count 0 for it"}


def _asked(answer: Callable[..., Any], cases: Sequence[Case], which: int) -> list[int]:
    """Number ``which`` of the answers to all cases; the layers are handed over as copies."""
    names = ("the parameters", "the multiply-adds")
    found = []
    for layers, shape in cases:
        given = copy.deepcopy(layers)
        got = called(lambda s, given=given: explained(answer, BIASES)(given, s), shape=shape)
        if [type(layer) for layer in given] != [type(layer) for layer in layers]:
            raise Wrong("your function changes the list of layers in place; work on a copy")
        found.append(whole(parts(got, "(parameters, multiply_adds)")[which], names[which]))
    return found


def _words(case: Case) -> str:
    return f"{', '.join(filter(None, map(_shown, case[0])))} on images {case[1]}"


def _shown(layer: Any) -> str:
    """A layer that can be built again from this."""
    bias = "" if getattr(layer, "bias", None) is not None else ", bias=False"
    if isinstance(layer, nn.Linear):
        return f"Linear({layer.in_features}, {layer.out_features}{bias})"
    if isinstance(layer, nn.MaxPool2d):
        return f"MaxPool2d({layer.kernel_size}, {layer.stride})"
    if not isinstance(layer, nn.Conv2d):
        return ""
    usual = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    more = "".join(f", {k}={getattr(layer, k)}" for k, v in usual.items() if getattr(layer, k) != v)
    return f"Conv2d({layer.in_channels}, {layer.out_channels}, {layer.kernel_size}{more}{bias})"


def _costs(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Conv2d, nn.Linear))


@exercise("Exercise 1, parameters")
def parameters(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The first result of ``answer(layers, shape)``."""
    cases = _networks(seed)
    right = [_learned(*case) for case in cases]
    mistakes = {
        "the biases are missing": lambda layer: layer.weight.numel(),
        "a bias is counted where there is none: layer.bias is None then": (
            lambda layer: layer.weight.numel() + len(layer.weight)
        ),
        "one bias is counted for each layer; there is one for each channel that comes out": (
            lambda layer: layer.weight.numel() + (layer.bias is not None)
        ),
        "groups are ignored: a kernel sees in_channels / groups channels": (
            lambda layer: layer.weight.numel() * getattr(layer, "groups", 1) + _bias(layer)
        ),
        "groups count twice: only the channels that a kernel sees are divided": (
            lambda layer: layer.weight.numel() // getattr(layer, "groups", 1) + _bias(layer)
        ),
        "a kernel is taken for a square; kernel_size is (height, width)": lambda layer: _square(layer) + _bias(layer),
        "the linear layers are missing": lambda layer: (
            layer.weight.numel() + _bias(layer) if isinstance(layer, nn.Conv2d) else 0
        ),
    }
    wrong = _over(cases, mistakes) | {EXCHANGED: lambda place: _run(*cases[place])}
    exactly(_asked(answer, cases, 0), right, wrong, [f"{_words(c)}: parameters" for c in cases])
    return "right, for rectangles, groups and missing biases too"


def _over(cases: Sequence[Case], mistakes: Mapping[str, Callable[[Any], int]]) -> dict[str, Callable[[int], object]]:
    def summed(count: Callable[[Any], int]) -> Callable[[int], int]:
        return lambda place: sum(count(layer) for layer in cases[place][0] if _costs(layer))

    return {sentence: summed(count) for sentence, count in mistakes.items()}


def _bias(layer: Any) -> int:
    return 0 if layer.bias is None else len(layer.bias)


def _square(layer: Any) -> int:
    if isinstance(layer, nn.Linear):
        return layer.weight.numel()
    return layer.weight.shape[0] * layer.weight.shape[1] * layer.kernel_size[0] ** 2


@exercise("Exercise 1, multiply-adds")
def multiply_adds(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The second result of the same function, against PyTorch's own counter."""
    cases = _networks(seed)
    right = [_run(*case) for case in cases]
    mistakes = {
        "this counts a multiply-add as two operations": _counted(factor=2),
        "this counts what biases add; only products count": _counted(bias=True),
        "this counts the biases; their additions are no multiply-adds": _counted(biases=True),
        EXCHANGED: _learned,
        "the pairs are read in the wrong order: the first number belongs to the rows": _counted(axes=(1, 0)),
        "the first number of each pair is used twice; the second belongs to the columns": _counted(axes=(0, 0)),
        "groups are ignored: a kernel sees in_channels / groups channels": _counted(ungrouped=True),
        "strides are ignored": _counted(stride=False),
        "padding is ignored": _counted(padding=False),
        "dilation is ignored: a kernel of k reaches over d (k - 1) + 1 pixels": _counted(dilation=False),
        "the map that goes in is taken; a kernel runs once for each pixel that comes out": _counted(output=False),
        "the map is taken for a square": _counted(square=True),
        "pooling halves the map; it is left out": _counted(pool=False),
        "pooling steps by its stride, which may differ from its kernel": _counted(step="kernel_size"),
        "where a window of pooling does not fit, it is left out: round down": _counted(up=1),
        "the last window of pooling must fit: (H - kernel) // stride + 1": _counted(plain=True),
        "where a kernel does not fit, it is left out: round down": _counted(ceil=True),
        "padding is on both sides: it counts twice": _counted(sides=1),
        "the kernel is taken for a square; read both numbers of kernel_size": _counted(kernel=_square),
        "a linear layer runs once, not for each pixel": _counted(each=True),
        "the linear layers are missing": _counted(linear=False),
        "these are the weights alone; a kernel runs once for each pixel that comes out": _counted(pixels=False),
    }
    exactly(
        _asked(answer, cases, 1),
        right,
        {sentence: (lambda place, f=f: f(*cases[place])) for sentence, f in mistakes.items()},  # type: ignore[misc]
        [f"{_words(c)}: multiply-adds" for c in cases],
    )
    return "right: PyTorch's counter says the same"


def _learned(layers: Sequence[nn.Module], shape: Shape) -> int:
    return sum(p.numel() for layer in layers for p in layer.parameters())


def _run(layers: Sequence[nn.Module], shape: Shape) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        nn.Sequential(*layers)(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2


def _counted(
    *,
    factor: int = 1,
    bias: bool = False,
    biases: bool = False,
    axes: tuple[int, int] = (0, 1),
    ungrouped: bool = False,
    stride: bool = True,
    padding: bool = True,
    dilation: bool = True,
    output: bool = True,
    square: bool = False,
    pool: bool = True,
    step: str = "stride",
    up: int = 0,
    plain: bool = False,
    ceil: bool = False,
    sides: int = 2,
    kernel: Callable[[Any], int] = lambda layer: layer.weight.numel(),
    each: bool = False,
    linear: bool = True,
    pixels: bool = True,
) -> Callable[[Sequence[nn.Module], Shape], int]:
    """A way to count by formula, with at most one thing wrong."""

    def size(layer: Any, n: int, axis: int) -> int:
        p, d, s = (layer.padding[axis] * padding, layer.dilation[axis] if dilation else 1,
                   layer.stride[axis] if stride else 1)  # fmt: skip
        return (n + sides * p - d * (layer.kernel_size[axis] - 1) - 1 + (s - 1) * ceil) // s + 1

    def count(layers: Sequence[nn.Module], shape: Shape) -> int:
        H, W, total = *shape[1:], 0
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                before = H * W
                H, W = size(layer, H, axes[0]), size(layer, W, axes[1])
                per_pixel = kernel(layer) * (layer.groups if ungrouped else 1) + _bias(layer) * bias
                where = before if not output else H * H if square else H * W
                total += per_pixel * (where if pixels else 1)
            elif isinstance(layer, nn.MaxPool2d) and pool:
                k, s = layer.kernel_size, getattr(layer, step)
                assert isinstance(k, int)
                H, W = ((n - (s if plain else k) + up * (s - 1)) // s + 1 for n in (H, W))
            elif isinstance(layer, nn.Linear):
                total += (layer.weight.numel() + _bias(layer) * bias) * linear * (H * W if each else 1)
            total += _bias(layer) * biases if _costs(layer) else 0
        return factor * total

    return count
