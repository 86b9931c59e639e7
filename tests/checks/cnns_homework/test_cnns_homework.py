"""The homework's checks accept right answers, however they are written."""

from __future__ import annotations

import bisect
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import Bottleneck

from cvbook import summary
from cvbook.checks import cnns_homework as checks

SEEDS = (0, 1, 2)
NAMES = {check.__name__: name for check, name, _ in checks.PARTS}


# Right answers, written in another way than the instructor's


def budget(layers: Any, shape: Any) -> Any:
    """By running the layers under PyTorch's counter."""
    with FlopCounterMode(display=False) as counter:
        nn.Sequential(*layers)(torch.rand(1, *shape))
    return [np.int64(sum(p.numel() for layer in layers for p in layer.parameters())), counter.get_total_flops() / 2]


def memory(shapes: Any) -> Any:
    sizes = np.array([np.prod(shape) for shape in shapes])
    return sizes.sum(), (sizes[1:] + sizes[:-1]).max()


def fire(x: Any, squeeze: Any, one: Any, three: Any) -> Any:
    """Both expansions as one convolution: a 1x1 kernel is a 3x3 kernel with zeros around it."""
    s = torch.einsum("bchw,sc->bshw", x, squeeze[0][..., 0, 0]) + squeeze[1].view(1, -1, 1, 1)
    kernels = torch.cat([F.pad(one[0], (1, 1, 1, 1)), three[0]])
    return F.conv2d(s.clamp(min=0), kernels, torch.cat([one[1], three[1]]), padding="same").clamp(min=0).numpy()


def fire_parameters(channels: int, squeeze: int, one: int, three: int) -> Any:
    layers = nn.Conv2d(channels, squeeze, 1), nn.Conv2d(squeeze, one, 1), nn.Conv2d(squeeze, three, 3)
    return torch.tensor(sum(p.numel() for layer in layers for p in layer.parameters()))


def largest_squeeze(channels: int, out: int, budget: int) -> Any:
    sizes = [fire_parameters(channels, s, out // 2, out // 2).item() for s in range(1, 70)]
    return bisect.bisect_right(sizes, budget)


def bottleneck(in_channels: int, inner: int, out_channels: int, stride: int, groups: int) -> Any:
    """Torchvision's forward around layers of our own."""
    block = Bottleneck(in_channels, out_channels // 4, stride)
    block.conv1, block.bn1 = nn.Conv2d(in_channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
    block.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
    block.bn2, block.conv3 = nn.BatchNorm2d(inner), nn.Conv2d(inner, out_channels, 1, bias=False)
    if stride != 1 or in_channels != out_channels:
        way = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        block.downsample = nn.Sequential(way, nn.BatchNorm2d(out_channels))
    return block


def padded_shortcut(x: Any, out_channels: int, stride: int) -> Any:
    y = x[..., ::stride, ::stride]
    return torch.cat([y, torch.zeros(len(y), out_channels - y.shape[1], *y.shape[2:])], 1)


def original(weights: Any, x: Any) -> Any:
    def chain(x: Any) -> Any:
        for W in weights:
            x = (x + W @ x).clamp(min=0)
        return x

    return torch.autograd.functional.jacobian(chain, x)


def preactivation(weights: Any, x: Any) -> Any:
    factors = []
    for W in weights:
        factors.append(np.eye(len(x)) + W.numpy() @ np.diag((x > 0).double().numpy()))
        x = x + W @ x.clamp(min=0)
    return np.linalg.multi_dot([*factors[::-1], np.eye(len(x))])


def branch_std(blocks: int, growth: float) -> Any:
    return torch.tensor(math.expm1(math.log(growth) / blocks), dtype=torch.float64).sqrt()


def as_kernels(weight: Any, shape: Any) -> Any:
    return [[[row.tolist() for row in channel] for channel in one.reshape(*shape)] for one in weight]


class Windows(nn.Module):
    """The old head at every window, one after the other."""

    def __init__(self, layers: Any, shape: Any) -> None:
        super().__init__()
        self.head, self.shape = nn.Sequential(*layers), shape

    def forward(self, maps: Any) -> Any:
        _, h, w = self.shape
        windows = maps.unfold(2, h, 1).unfold(3, w, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)
        return self.head(windows).movedim(3, 1)


def convolutional(layers: Any, shape: Any) -> Any:
    return Windows(layers, shape)


def best_windows(scores: Any, side: int, stride: int) -> Any:
    shares = np.exp(scores.numpy() - scores.logsumexp(0).numpy())
    found = [np.unravel_index(one.argmax(), one.shape) for one in shares]
    return [(i * stride, j * stride, i * stride + side, j * stride + side) for i, j in found]


def expected_top_k(scores: Any, labels: Any, k: int) -> Any:
    total = 0.0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        above, level = sum(v > row[label] for v in row), row.count(row[label])
        total += 0 if above >= k else min(1, (k - above) / level)
    return total / len(labels)


def coverage(drops: Any, patch: int, stride: int, height: int, width: int) -> Any:
    """A transposed convolution adds the patches up."""
    ones, rest = torch.ones(1, 1, patch, patch), torch.zeros(height, width)
    total = F.conv_transpose2d(drops[None, None], ones, stride=stride)[0, 0]
    count = F.conv_transpose2d(torch.ones_like(drops)[None, None], ones, stride=stride)[0, 0]
    rest[: len(total), : total.shape[1]] = torch.where(count > 0, total / count, 0)
    return rest


def widest_network(build: Any, shape: Any, budget: int) -> Any:
    def cost(width: int) -> int:
        return summary(build(width), shape).multiply_adds

    low, high = 1, 2
    while cost(high) <= budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return low


def clearly_better(results: Any) -> Any:
    return [[a, b] for a in results for b in results if all(x > y for x in results[a] for y in results[b])]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("check", NAMES)
def test_the_instructors_solution_passes(solutions: dict[str, Any], check: str, seed: int) -> None:
    verdict = getattr(checks, check)(solutions[NAMES[check]], seed=seed)
    assert verdict.passed, verdict


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("check", NAMES)
def test_a_right_answer_in_another_form_passes(check: str, seed: int) -> None:
    verdict = getattr(checks, check)(globals()[NAMES[check]], seed=seed)
    assert verdict.passed, verdict


def test_the_summary_counts_what_is_passed_wrong_and_empty(solutions: dict[str, Any]) -> None:
    full = checks.summary(solutions).splitlines()
    assert len(full) == len(checks.PARTS) + 1
    assert full[0] == "✓ Exercise 1, parameters (1 point)"
    assert full[-1] == "30 of 30 points (checks wrong: 0, still empty: 0)"
    mixed = {**solutions, "coverage": lambda drops, patch, stride, h, w: torch.zeros(h, w), "widest_network": None}
    lines = checks.summary(mixed).splitlines()
    assert "… Exercise 7, the widest network (2 points)" in lines
    assert any(line.startswith("✗ Exercise 6, a map for each pixel (2 points): everything is zero") for line in lines)
    assert lines[-1] == "26 of 30 points (checks wrong: 1, still empty: 1)"
