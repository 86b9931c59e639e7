"""Exercises 1, 3 and 4 of the homework: plausible wrong answers are told their mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks import convolution_homework as checks
from cvbook.checks.convolution_homework import kernels as module


def conv(x: Tensor, weight: Tensor) -> Tensor:
    """(C_in, H, W) by (C_out, C_in, kh, kw), by unfolding, which no exercise forbids."""
    columns = F.unfold(x[None].float(), tuple(weight.shape[2:]))[0]
    return (weight.flatten(1) @ columns).unflatten(1, (-1, x.shape[2] - weight.shape[3] + 1))


def correlated(image: Tensor, kernel: Tensor) -> Tensor:
    return conv(image[None], kernel[None, None])[0]


def shape4(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows)[:, :, None, None]


def pool(weight: Callable[[int, int], Tensor], stride: Any = None, groups: Any = None) -> Callable[..., dict[str, Any]]:
    def answer(channels: int, k: int) -> dict[str, Any]:
        return {"weight": weight(channels, k), "stride": stride or k, "groups": groups or channels}

    return answer


def kernels(channels: int, k: int) -> Tensor:
    return torch.full((channels, 1, k, k), 1 / k**2)


def wide(v: Tensor) -> Tensor:
    return v[:, None, None]


# check, answer, part of the message that names the mistake
MISTAKES: list[tuple[str, Any, str]] = [
    ("correlate2d", lambda x, w: correlated(x, w.flip(0, 1)), "true convolution: the kernel is flipped"),
    ("correlate2d", lambda x, w: correlated(x, w.flip(0)), "upside down"),
    ("correlate2d", lambda x, w: correlated(x, w.flip(1)), "mirrored"),
    ("correlate2d", lambda x, w: correlated(x, w)[:-1, :-1], "H - kh + 1"),
    ("correlate2d", lambda x, w: correlated(x, w).T, "height and width are exchanged"),
    ("correlate2d", lambda x, w: correlated(x, w) / w.numel(), "averaged"),
    ("correlate2d", lambda x, w: torch.zeros_like(x), "as large as the image"),
    ("correlate2d", lambda x, w: x[len(w) - 1 :, len(w[0]) - 1 :] * w[-1, -1], "only the last product"),
    (
        "correlate2d",
        lambda x, w: correlated(x, w).flatten().cumsum(0).view_as(correlated(x, w)),
        "start each place at 0",
    ),
    ("correlate2d", lambda x, w: correlated(x, w).cumsum(1), "goes on along each row"),
    ("correlate2d", lambda x, w: x @ w, "your code stopped with RuntimeError"),
    ("correlate2d_integers", lambda x, w: correlated(x, w).long(), "cut to whole numbers: make it with torch.zeros"),
    ("correlate2d_integers", lambda x, w: correlated(x, w).floor(), "cut to whole numbers"),
    ("correlate2d_integers", lambda x, w: correlated(x, w.long().float()), "kernel is cut to whole numbers"),
    (
        "correlate2d_integers",
        lambda x, w: x[:2, :3] @ w,
        "your code stopped with RuntimeError",
    ),
    ("correlate_channels", lambda x, w: conv(x, w.flip(2, 3)), "true convolution"),
    ("correlate_channels", lambda x, w: conv(x, w.transpose(0, 1)), "channels are exchanged"),
    ("correlate_channels", lambda x, w: conv(x.sum(0)[None], w[:, :1]), "same kernel is used"),
    ("correlate_channels", lambda x, w: conv(x, w) / len(x), "averaged"),
    ("correlate_channels", lambda x, w: conv(x[:1], w[:, :1]), "only the first input channel"),
    ("correlate_channels", lambda x, w: conv(x[-1:], w[:, -1:]), "only the last input channel"),
    ("correlate_channels", lambda x, w: conv(x, w).cumsum(0), "start each output channel at 0"),
    ("correlate_channels", lambda x, w: list(conv(x, w)), "torch.stack makes them one tensor"),
    ("correlate_bias", lambda x, w, b: (conv(x, w) + wide(b)).cumsum(0), "start each output channel at 0"),
    (
        "correlate_channels",
        lambda x, w: torch.stack([correlated(x[o], w[o, o]) for o in range(len(w))]),
        "each output channel sees one input channel only",
    ),
    (
        "correlate_channels",
        lambda x, w: torch.stack([torch.stack([correlated(x[c], v[c]) for c in range(len(x))]) for v in w]),
        "kept apart",
    ),
    ("correlate_bias", lambda x, w, b: conv(x, w), "bias is missing"),
    ("correlate_bias", lambda x, w, b: conv(x, w) + len(x) * wide(b), "once for each input channel"),
    ("correlate_bias", lambda x, w, b: conv(x, w) + w[0].numel() * wide(b), "once for each weight"),
    ("correlate_bias", lambda x, w, b: conv(x, w) - wide(b), "subtracted"),
    ("correlate_bias", lambda x, w, b: conv(x, w) + b[0], "same bias"),
    ("correlate_bias", lambda x, w, b: conv(x, w) + b.sum(), "sum of all biases"),
    ("grey_kernel", lambda: torch.full((1, 3, 1, 1), 1 / 3), "mean of R, G and B"),
    ("grey_kernel", lambda: torch.ones(1, 3, 1, 1), "sum of R, G and B"),
    ("grey_kernel", lambda: shape4((0.114, 0.587, 0.299)), "order is B, G, R"),
    ("grey_kernel", lambda: shape4((0.299,), (0.587,), (0.114,)), "exchanged: expected (1, 3, 1, 1)"),
    ("grey_kernel", lambda: torch.tensor([0.299, 0.587, 0.114]), "expected the shape (1, 3, 1, 1)"),
    ("append_kernel", lambda: shape4((1.0, 0, 0), (0, 1, 0), (1, 1, 0)), "overwrites a channel"),
    ("append_kernel", lambda: shape4((1.0, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 0)), "exchanged: expected (4, 3, 1, 1)"),
    ("append_kernel", lambda: shape4((1.0, 1, 0)), "sum alone"),
    ("append_kernel", lambda: shape4((1.0, 1, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)), "comes first"),
    ("append_kernel", lambda: shape4((1.0, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0)), "mean (R + G)/2"),
    ("append_kernel", lambda: shape4((1.0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)), "R + B"),
    ("append_kernel", lambda: shape4((1.0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)), "R + G + B"),
    ("append_kernel", lambda: shape4((0.0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 1, 0)), "first three channels are empty"),
    ("average_pool_weight", pool(lambda c, k: torch.full((c, c, k, k), 1 / k**2 / c)), "each sees its own"),
    ("average_pool_weight", pool(lambda c, k: kernels(c, k) * k), "weights are 1/k;"),
    ("average_pool_weight", pool(lambda c, k: kernels(c, k) * k * k), "weights are 1;"),
    ("average_pool_weight", pool(lambda c, k: kernels(c, k) / c), "number of channels"),
    ("average_pool_weight", lambda c, k: kernels(c, k), "expected a dict"),
    ("average_pool_weight", lambda c, k: {"weight": kernels(c, k)}, "got ['weight']"),
    ("average_pool_result", pool(kernels, stride=1), "the windows overlap"),
    ("average_pool_result", pool(kernels, groups=1), "groups must be the number of channels"),
    ("average_pool_result", pool(lambda c, k: torch.full((c, c, k, k), 1 / k**2 / c), groups=1), "channels are mixed"),
    ("average_pool_result", pool(lambda c, k: torch.full((c, c, k, k), 1 / k**2), groups=1), "added together"),
    ("average_pool_result", pool(lambda c, k: kernels(c, k) * k), "weights are 1/k;"),
    ("average_pool_result", pool(lambda c, k: kernels(c, k)[0]), "F.conv2d refuses weight"),
]


@pytest.mark.parametrize(("check", "answer", "message"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(check: str, answer: Any, message: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("check", module.__all__)
def test_every_check_knows_three_mistakes(check: str) -> None:
    assert len({message for name, _, message in MISTAKES if name == check}) >= 3
