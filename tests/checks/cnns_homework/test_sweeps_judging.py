"""Exercises 5 to 7 of the homework: plausible wrong answers are told their mistake."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvbook import summary
from cvbook.checks import cnns_homework as checks
from cvbook.checks.cnns_homework import any_size, comparison, judging


class Sweep(nn.Module):
    """A head for any size with something wrong."""

    def __init__(self, layers: Any, shape: Any, wrong: str) -> None:
        super().__init__()
        self.layers, self.shape, self.wrong = nn.ModuleList(layers), shape, wrong

    def forward(self, x: Any) -> Any:
        C, h, w = self.shape
        if self.wrong in ("shrunk", "cut"):
            x = F.adaptive_avg_pool2d(x, (h, w)) if self.wrong == "shrunk" else x[..., :h, :w]
            return nn.Sequential(nn.Flatten(), *self.layers)(x)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                weight = layer.weight[..., None, None] if x.shape[1] == layer.in_features else layer.weight
                if weight.ndim == 2:
                    weight = layer.weight.view(-1, C, h, w)
                    if self.wrong == "order":
                        weight = layer.weight.view(-1, h, w, C).permute(0, 3, 1, 2)
                x = F.conv2d(x, weight, None if self.wrong == "bias" else layer.bias)
            elif self.wrong != "relu":
                x = layer(x)
        return {"mean": lambda: x.mean((2, 3)), "first": lambda: x[:, :, 0, 0]}.get(self.wrong, lambda: x)()


def sweep(wrong: str) -> Callable[..., nn.Module]:
    return lambda layers, shape: Sweep(layers, shape, wrong)


def copied(weight: bool = True, bias: bool = True) -> Callable[..., nn.Module]:
    """Convolutions that keep some of the random numbers they are made with."""

    def answer(layers: Any, shape: Any) -> nn.Module:
        new: list[nn.Module] = []
        for layer in layers:
            if isinstance(layer, nn.Linear):
                kernels = layer.weight.detach().view(-1, *(shape if not new else (layer.in_features, 1, 1)))
                conv = nn.Conv2d(kernels.shape[1], len(kernels), tuple(kernels.shape[2:]))
                conv.weight.data = kernels.clone() if weight else conv.weight.data
                conv.bias.data = layer.bias.detach().clone() if bias else conv.bias.data  # type: ignore[union-attr]
                layer = conv
            new.append(layer)
        return nn.Sequential(*new)

    return answer


def windows(find: Callable[[Any], Any] = lambda s: s.softmax(0), box: Any = None) -> Callable[..., Any]:
    def answer(scores: Any, side: int, stride: int) -> Any:
        values, boxes = find(scores), []
        for one in values:
            i, j = divmod(int(one.argmax()), one.shape[1])
            make = box or (lambda i, j, n, s: (i * s, j * s, i * s + n, j * s + n))
            boxes.append(make(i, j, side, stride))
        return boxes

    return answer


def ranks(rule: Callable[[Any, Any, int], Any], change: Callable[[Any], Any] = torch.mean) -> Callable[..., Any]:
    def answer(scores: Any, labels: Any, k: int) -> Any:
        own = scores[torch.arange(len(scores)), labels][:, None]
        return change(rule((scores > own).sum(1), (scores == own).sum(1), k).double())

    return answer


def fair(a: Any, t: Any, k: int) -> Any:
    return ((k - a) / t).clamp(0, 1)


def covered(finish: Callable[..., Any], last: bool = False, step: int = 0) -> Callable[..., Any]:
    def answer(drops: Any, patch: int, stride: int, H: int, W: int) -> Any:
        total, count = torch.zeros(H, W), torch.zeros(H, W)
        for i, j in itertools.product(*map(range, drops.shape)):
            s = step or stride
            part = slice(i * s, i * s + patch), slice(j * s, j * s + patch)
            total[part] = drops[i, j] if last else total[part] + drops[i, j]
            count[part] += 1
        return finish(total, count, patch, drops.numel())

    return answer


def divided(total: Any, count: Any, patch: int, n: int) -> Any:
    return total / count.clamp(min=1)


def widest(cost: Callable[..., int] = lambda s: s.multiply_adds, more: int = 0, strict: bool = False, step: int = 1) -> Any:  # fmt: skip  # noqa: E501
    def answer(build: Any, shape: Any, budget: int) -> int:
        w = 1 if step == 1 else 0
        while cost(summary(build(w + step), shape)) + strict <= budget:
            w += step
        return w + more

    return answer


def cheap(build: Any, shape: Any, budget: int) -> int:
    """Parameters instead of multiply-adds, without running anything."""
    w = 1
    while sum(p.numel() for p in build(w + 1).parameters()) <= budget:
        w += 1
    return w


def compare(rule: Callable[[Any, Any], bool]) -> Callable[..., Any]:
    return lambda results: {(a, b) for a, b in itertools.permutations(results, 2) if rule(results[a], results[b])}


# check, answer, part of the message that names the mistake
MISTAKES: list[tuple[str, Any, str]] = [
    ("as_kernels", lambda W, s: W.view(-1, s[1], s[2], s[0]).permute(0, 3, 1, 2), "order (h, w, C)"),
    ("as_kernels", lambda W, s: W.view(-1, s[0], s[2], s[1]).mT, "rows and columns are exchanged"),
    ("as_kernels", lambda W, s: W.view(-1, *s).flip(2, 3), "flipped"),
    ("as_kernels", lambda W, s: W.view(-1, *s).permute(0, 2, 3, 1), "channels stand last"),
    ("as_kernels", lambda W, s: W.view(-1, *s).transpose(0, 1), "are exchanged"),
    ("as_kernels", lambda W, s: W, "expected shape (4, 3, 2, 5)"),
    ("convolutional", sweep("bias"), "biases are not copied"),
    ("convolutional", sweep("relu"), "activations between the layers are missing"),
    ("convolutional", sweep("order"), "order (h, w, C)"),
    ("convolutional", sweep("shrunk"), "shrunk to the size"),
    ("convolutional", sweep("cut"), "only the first window is left"),
    ("convolutional", sweep("mean"), "are averaged"),
    ("convolutional", sweep("first"), "only the first window is left"),
    ("convolutional", copied(weight=False), "as its weight; copy"),
    ("convolutional", copied(bias=False), "as its bias; copy"),
    ("convolutional", lambda layers, shape: nn.Sequential(sweep("")(layers, shape), nn.ReLU()), "after the last layer"),
    ("convolutional", lambda layers, shape: 5, "expected an nn.Module"),
    ("best_windows", windows(lambda s: s), "says something within its window only"),
    ("best_windows", windows(lambda s: s.flatten(1).softmax(1).view_as(s)), "among its classes"),
    ("best_windows", windows(lambda s: -s.softmax(0)), "least likely"),
    ("best_windows", windows(box=lambda i, j, n, s: (j * s, i * s, j * s + n, i * s + n)), "columns are exchanged"),
    ("best_windows", windows(box=lambda i, j, n, s: (i, j, i + n, j + n)), "stride is ignored"),
    ("best_windows", windows(box=lambda i, j, n, s: (i * s, j * s, i * s + n - 1, j * s + n - 1)), "outside"),
    ("best_windows", windows(box=lambda i, j, n, s: (i * s, j * s, n, n)), "height, width"),
    (
        "best_windows",
        lambda scores, side, stride: torch.tensor(
            [
                [
                    n // scores.shape[1] * stride,
                    n % scores.shape[1] * stride,
                    n // scores.shape[1] * stride + side,
                    n % scores.shape[1] * stride + side,
                ]
                for n in scores.softmax(0).flatten(1).argmax(1).tolist()
            ]
        ),
        "this divides by the rows",
    ),
    ("expected_top_k", ranks(lambda a, t, k: a < k), "decided for the label"),
    ("expected_top_k", ranks(lambda a, t, k: a + t <= k), "decided against the label"),
    ("expected_top_k", ranks(lambda a, t, k: fair(a, t, 1)), "this is top-1"),
    ("expected_top_k", ranks(lambda a, t, k: (a < k) / t), "several places may be left"),
    ("expected_top_k", ranks(lambda a, t, k: fair(a, t, k) / k), "divided by k"),
    ("expected_top_k", ranks(fair, torch.sum), "return the mean"),
    ("expected_top_k", ranks(fair, lambda x: x), "one chance for each image"),
    ("expected_top_k", ranks(lambda a, t, k: (k - a) / t), "not clamped"),
    ("expected_top_k", lambda s, y, k: ranks(fair)(-s, y, k), "wrong end"),
    ("expected_top_k", lambda s, y, k: (s.topk(k).indices == y[:, None]).any(1).float().mean(), "order of the classes"),
    ("coverage", covered(lambda t, c, p, n: t), "this is the sum"),
    ("coverage", covered(lambda t, c, p, n: t / c), "are NaN"),
    ("coverage", covered(lambda t, c, p, n: t, last=True), "overwrites the one before"),
    ("coverage", covered(lambda t, c, p, n: t / p**2), "patch squared"),
    ("coverage", covered(lambda t, c, p, n: t / n), "number of all patches"),
    ("coverage", covered(divided, step=1), "stride is ignored"),
    ("coverage", covered(lambda t, c, p, n: c), "how many patches"),
    (
        "coverage",
        lambda d, p, s, H, W: F.interpolate(d[None, None], size=(H, W), mode="bilinear")[0, 0],
        "stretched over the image",
    ),
    ("widest_network", cheap, "far beyond the budget; count multiply-adds, not parameters"),
    (
        "widest_network",
        lambda build, shape, most: max(w for w in range(1, 65) if summary(build(w), shape).multiply_adds <= most),
        "stop at the first width that costs too much",
    ),
    ("widest_network", widest(more=1), "too wide"),
    ("widest_network", widest(more=-1), "one channel more still fits"),
    ("widest_network", widest(strict=True), "compare with <="),
    ("widest_network", widest(lambda s: 2 * s.multiply_adds), "two operations"),
    ("clearly_better", compare(lambda a, b: sum(a) / len(a) > sum(b) / len(b)), "compares the means"),
    ("clearly_better", compare(lambda a, b: max(a) > max(b)), "compares the best runs"),
    ("clearly_better", compare(lambda a, b: min(a) > min(b)), "compares the worst runs"),
    ("clearly_better", compare(lambda a, b: min(a) >= max(b)), "equal is not better"),
    ("clearly_better", compare(lambda a, b: max(a) < min(b)), "turned around"),
    ("clearly_better", compare(lambda a, b: max(a) > min(b)), "best run beats the worst"),
    ("clearly_better", lambda results: set(), "some pairs are missing"),
    ("clearly_better", lambda results: {("a", "z")}, "not in the results"),
    ("verdict", lambda: ("3x3", "separable"), "3x3 reaches about 71 %"),
    ("verdict", lambda: ("separable", "separable"), "more than twice as long"),
    ("verdict", lambda: ("separable", "bottleneck"), "more than twice as long"),
    ("verdict", lambda: ("3x3", "3x3"), "3x3 reaches about 71 %"),
    ("verdict", lambda: ("bottleneck", "3x3"), "bottleneck reaches about 67 %"),
    ("verdict", lambda: ("1x1 only", "3x3"), "1x1 only reaches about 56 %"),
    ("verdict", lambda: ("3x3, 3 times", "3x3"), "the four that cost the same"),
    ("verdict", lambda: ("inception", "3x3"), "expected names among 3x3, bottleneck"),
    ("verdict", lambda: "separable", "expected 2 results"),
]


@pytest.mark.parametrize(("check", "answer", "message"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(check: str, answer: Any, message: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong", verdict
    assert message in verdict.message


@pytest.mark.parametrize("check", [*any_size.__all__, *judging.__all__, *comparison.__all__])
def test_every_check_knows_four_mistakes(check: str) -> None:
    assert len({message for name, _, message in MISTAKES if name == check}) >= 4


def test_the_expected_share_is_what_many_random_orders_give() -> None:
    g = torch.Generator().manual_seed(5)
    scores, labels = torch.randint(0, 3, (50, 6), generator=g).double(), torch.randint(6, (50,), generator=g)
    orders = scores + 1e-3 * torch.rand(4000, 50, 6, generator=g, dtype=torch.float64)
    drawn = (orders.topk(3, -1).indices == labels[:, None]).any(-1).double().mean()
    assert abs(judging._brute(scores, labels, 3) - drawn) < 0.01


def test_another_machine_may_have_another_quickest_block() -> None:
    verdict = checks.verdict(lambda: ("separable", "1x1 only"))
    assert verdict.passed
    assert "your machine may differ" in verdict.message
