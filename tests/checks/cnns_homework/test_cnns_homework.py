"""The homework's checks accept right answers, however they are written."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

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


class Block(nn.Module):
    """Layers by name, written down in a loop."""

    def __init__(self, widths: Any, stride: int, groups: int) -> None:
        super().__init__()
        for n, (a, b) in enumerate(itertools.pairwise(widths), 1):
            how = {"kernel_size": 3, "stride": stride, "padding": 1, "groups": groups} if n == 2 else {"kernel_size": 1}
            self.add_module(f"conv{n}", nn.Conv2d(a, b, **how, bias=False))
            self.add_module(f"bn{n}", nn.BatchNorm2d(b))
        if stride > 1 or widths[0] != widths[3]:
            way = nn.Conv2d(widths[0], widths[3], 1, stride, bias=False)
            self.downsample = nn.Sequential(way, nn.BatchNorm2d(widths[3]))

    def forward(self, x: Any) -> Any:
        y = x
        for n in (1, 2, 3):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y.clamp(min=0) if n > 1 else y))
        return (y + getattr(self, "downsample", nn.Identity())(x)).clamp(min=0)


def bottleneck(in_channels: int, inner: int, out_channels: int, stride: int, groups: int) -> Any:
    return Block((in_channels, inner, inner, out_channels), stride, groups)


def padded_shortcut(x: Any, out_channels: int, stride: int) -> Any:
    y = x[..., ::stride, ::stride]
    return torch.cat([y, torch.zeros(len(y), out_channels - y.shape[1], *y.shape[2:])], 1)


def original(weights: Any, x: Any) -> Any:
    """Column by column: where a step in one number of x ends."""
    steps = np.eye(len(x))
    for W in weights:
        z = (x + W @ x).numpy()
        steps = np.array([np.where(z > 0, step + W.numpy() @ step, 0) for step in steps])
        x = torch.from_numpy(z.clip(min=0))
    return steps.T


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


def verdict() -> Any:
    return ["Separable ", "3×3"]


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
    assert "… Exercise 7, the widest network (1 point)" in lines
    assert any(line.startswith("✗ Exercise 6, a map for each pixel (2 points): everything is zero") for line in lines)
    assert lines[-1] == "27 of 30 points (checks wrong: 1, still empty: 1)"


def test_every_derivative_of_the_homework_refuses_autograd() -> None:
    def chain(block: Any) -> Any:
        return lambda weights, x: torch.func.jacrev(lambda t: functools.reduce(block, weights, t))(x)

    assert "this calls autograd" in checks.original(chain(lambda t, W: F.relu(t + W @ t))).message
    assert "this calls autograd" in checks.preactivation(chain(lambda t, W: t + W @ F.relu(t))).message


def test_the_example_of_the_original_block_tells_masks_apart() -> None:
    W, x, eye = (
        torch.tensor([[-1.0, 1.0], [-3.0, 0.0]]),
        torch.tensor([-2.0, -1.0]),
        torch.eye(2),
    )  # as in the docstring
    by_x, by_branch, by_sum = (torch.diag((z > 0).float()) for z in (x, W @ x, x + W @ x))
    right = by_sum @ (eye + W)
    assert right.tolist() == [[0, 0], [-3, 1]]
    mistakes = [eye + W, by_x @ (eye + W), by_branch @ (eye + W), (eye + W) @ by_sum, eye + by_sum @ W, by_sum + W,
                by_sum @ W, by_sum @ (1 + W), right.T]  # fmt: skip
    assert not any(torch.equal(right, mistake) for mistake in mistakes)
