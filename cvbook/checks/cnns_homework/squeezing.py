"""Checks of the homework on convolutional networks, exercise 2: the fire module of SqueezeNet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.squeezenet import Fire

from cvbook.checks.answers import Mistakes, called, explained, tensor
from cvbook.checks.cnns_homework.budgets import draw, exactly, whole
from cvbook.checks.verdict import equal, exercise

__all__ = ["fire", "fire_parameters"]

Layer = tuple[Tensor, Tensor]  # weight (C', C, k, k) and bias (C',)


@exercise("Exercise 2, the fire module")
def fire(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(x, squeeze, one, three)``: three pairs (weight, bias); against torchvision's module."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for s, e1, e3 in ((draw(g, 2, 5), 3, 3), (3, 4, 5), (2, 5, 4), (1, 2, 6)):
        c = s + e1  # such that no two widths of the convolutions agree by accident
        module = Fire(c, s, e1, e3)
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.bias, std=0.5)  # type: ignore[arg-type]
        layers = [(m.weight.detach(), m.bias.detach()) for m in (module.squeeze, module.expand1x1, module.expand3x3)]
        x = torch.randn(2, c, 5 + draw(g, 0, 3), 7, generator=g)
        with torch.no_grad():
            right = module(x.clone())
        got = called(explained(answer, SHAPES), x=x, squeeze=layers[0], one=layers[1], three=layers[2])
        what = f"{c} channels, squeezed to {s}, expanded to {e1} + {e3}"
        equal(tensor(got, what), right, mistakes=_fire_mistakes(x, *layers), what=what)
    return "right: equal to torchvision's module"


def _fire_mistakes(x: Tensor, squeeze: Layer, one: Layer, three: Layer) -> Mistakes:
    s = F.relu(F.conv2d(x, *squeeze))
    raw = F.conv2d(x, *squeeze)

    def expand(t: Tensor, *, padding: int = 1, three: Layer = three, one: Layer = one) -> tuple[Tensor, Tensor]:
        return F.conv2d(t, *one), F.conv2d(t, *three, padding=padding)

    bare = [(weight, torch.zeros_like(bias)) for weight, bias in (squeeze, one, three)]
    middle = (three[0][..., 1:2, 1:2], three[1])
    return {
        "the ReLU after the squeeze layer is missing": lambda: F.relu(torch.cat(expand(raw), 1)),
        "the ReLU after the expansion is missing": lambda: torch.cat(expand(s), 1),
        "neither expansion nor squeeze has its ReLU": lambda: torch.cat(expand(raw), 1),
        "the branches are added; they stand side by side, along the channels": lambda: F.relu(sum(expand(s))),  # type: ignore[arg-type]
        "the branches are concatenated in the wrong order: first 1x1, then 3x3": (
            lambda: F.relu(torch.cat(expand(s)[::-1], 1))
        ),
        "the branches are concatenated along the batch; channels are axis 1": lambda: F.relu(torch.cat(expand(s), 0)),
        "one of the two branches is missing: this is 1x1 alone": lambda: F.relu(expand(s)[0]),
        "one of the two branches is missing: this is 3x3 alone": lambda: F.relu(expand(s)[1]),
        "the biases are missing": lambda: F.relu(
            torch.cat([F.conv2d(F.relu(F.conv2d(x, *bare[0])), *bare[1]),
                       F.conv2d(F.relu(F.conv2d(x, *bare[0])), *bare[2], padding=1)], 1)
        ),
        "the 3x3 branch is not padded, so the 1x1 branch is cut to its size; pad by 1": lambda: F.relu(
            torch.cat([expand(s)[0][..., 1:-1, 1:-1], expand(s, padding=0)[1]], 1)
        ),
        "only the middle of the 3x3 kernel is used": lambda: F.relu(
            torch.cat([F.conv2d(s, *one), F.conv2d(s, *middle)], 1)
        ),
        "the squeeze layer is padded": lambda: F.relu(torch.cat(expand(F.relu(F.conv2d(x, *squeeze, padding=1))), 1)),
    }  # fmt: skip


Widths = tuple[int, int, int, int]


SHAPES = {
    "Sizes of tensors must match": (
        "the branches have different sizes: pad the 3x3 convolution by 1, and join along axis 1"
    ),
    "Given groups=1, weight of size": (
        "a convolution gets channels that it was not made for; both branches read the squeezed channels"
    ),
}


@exercise("Exercise 2, its parameters")
def fire_parameters(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(channels, squeeze, one, three)``, against torchvision's module."""
    g = torch.Generator().manual_seed(seed)
    cases = [(draw(g, 5, 99), draw(g, 2, 30), draw(g, 3, 50), draw(g, 3, 50)) for _ in range(6)]
    got = [whole(called(answer, channels=c, squeeze=s, one=a, three=b), "the parameters") for c, s, a, b in cases]
    right = [_counted(*case) for case in cases]
    mistakes: dict[str, Callable[..., int]] = {
        "the biases are missing": lambda c, s, a, b: c * s + s * a + 9 * s * b,
        "the bias of the squeeze layer is missing": lambda c, s, a, b: c * s + (s + 1) * a + (9 * s + 1) * b,
        "the biases of the expansion are missing": lambda c, s, a, b: (c + 1) * s + s * a + 9 * s * b,
        "the expansion reads the squeezed channels, not the input": (
            lambda c, s, a, b: (c + 1) * s + (c + 1) * a + (9 * c + 1) * b
        ),
        "a 3x3 kernel has 9 weights for each channel": lambda c, s, a, b: (c + 1) * s + (s + 1) * (a + b),
        "a 3x3 kernel has 9 weights for each channel, not 3": (
            lambda c, s, a, b: (c + 1) * s + (s + 1) * a + (3 * s + 1) * b
        ),
        "the squeeze layer is missing": lambda c, s, a, b: (s + 1) * a + (9 * s + 1) * b,
        "the bias does not depend on the size of the kernel: one for each channel that comes out": (
            lambda c, s, a, b: (c + 1) * s + (s + 1) * (a + 9 * b)
        ),
        "the two branches are in parallel; the 3x3 kernels do not read what the 1x1 kernels write": (
            lambda c, s, a, b: (c + 1) * s + (s + 1) * a + (9 * a + 1) * b
        ),
    }
    exactly(
        got,
        right,
        {sentence: (lambda place, f=f: f(*cases[place])) for sentence, f in mistakes.items()},  # type: ignore[misc]
        [f"{c} channels squeezed to {s} and expanded to {a} + {b}" for c, s, a, b in cases],
    )
    return "right: three convolutions with their biases"


def _counted(c: int, s: int, a: int, b: int) -> int:
    """Parameters of the real thing; on "meta" nothing is stored."""
    with torch.device("meta"):
        layers = [nn.Conv2d(c, s, 1), nn.Conv2d(s, a, 1), nn.Conv2d(s, b, 3)]
    return sum(p.numel() for layer in layers for p in layer.parameters())
