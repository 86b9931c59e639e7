"""Exercises 1 to 4 of the homework: plausible wrong answers are told their mistake."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import Bottleneck

from cvbook.checks import cnns_homework as checks
from cvbook.checks.cnns_homework import blocks, budgets, gradients, squeezing

MEMORY = ["memory_training", "memory_inference"]


def weighted(layers: Any) -> list[Any]:
    return [layer for layer in layers if isinstance(layer, (nn.Conv2d, nn.Linear))]


def bill(per_layer: Callable[[Any], int] | None = None, **wrong: Any) -> Callable[..., tuple[int, int]]:
    """An answer to ``budget`` with something wrong: the parameters of a layer, or a rule of the multiply-adds."""

    def count(layer: Any) -> int:
        return sum(p.numel() for p in layer.parameters())

    def answer(layers: Any, shape: Any) -> tuple[int, int]:
        _, H, W = shape
        total = 0
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                k, s = layer.kernel_size, layer.stride if wrong.get("stride", True) else (1, 1)
                p = layer.padding if wrong.get("padding", True) else (0, 0)
                d = layer.dilation if wrong.get("dilation", True) else (1, 1)
                before = H * W
                if axes := wrong.get("axes"):
                    k, s, p, d = ([pair[axis] for axis in axes] for pair in (k, s, p, d))
                H, W = (
                    (n + wrong.get("sides", 2) * b - e * (a - 1) - 1 + wrong.get("ceil", 0) * (c - 1)) // c + 1
                    for n, a, b, c, e in zip((H, W), k, p, s, d, strict=True)
                )
                area = layer.kernel_size[0] ** 2 if wrong.get("square") else math.prod(layer.kernel_size)
                weights = area * layer.out_channels * layer.in_channels
                weights = weights // layer.groups if wrong.get("groups", True) else weights
                total += weights * (H * W if wrong.get("output", True) else before)
                total += layer.out_channels * H * W if wrong.get("bias") and layer.bias is not None else 0
            elif isinstance(layer, nn.MaxPool2d):
                s = layer.kernel_size if wrong.get("apart") else layer.stride
                k = s if wrong.get("plain") else layer.kernel_size
                H, W = ((n - k + wrong.get("up", 0) * (s - 1)) // s + 1 for n in (H, W))
            elif isinstance(layer, nn.Linear) and wrong.get("linear", True):
                total += layer.weight.numel() * (H * W if wrong.get("each") else 1) + (
                    len(layer.weight) if wrong.get("bias") and layer.bias is not None else 0
                )
        total += wrong.get("biases", 0) * sum(len(m.bias) for m in weighted(layers) if m.bias is not None)
        found = sum((per_layer or count)(layer) for layer in weighted(layers)), wrong.get("factor", 1) * total
        return found[::-1] if wrong.get("exchanged") else found

    return answer


def sizes(rule: Callable[[list[int]], Any], which: int) -> Callable[[Any], Any]:
    def answer(shapes: Any) -> Any:
        found = rule([math.prod(shape) for shape in shapes])
        return (found, 1) if which == 0 else (1, found)

    return answer


def module(wrong: str = "") -> Callable[..., nn.Module]:
    """An answer to ``bottleneck`` with one thing wrong."""

    class Block(nn.Module):
        def __init__(self, c: int, inner: int, out: int, stride: int, groups: int) -> None:
            super().__init__()
            at = {"first": (stride, 1, 1), "third": (1, 1, stride)}.get(wrong, (1, stride, 1))
            groups = 1 if wrong == "groups" else groups
            self.conv1 = nn.Conv2d(c, inner, 1, at[0], bias=wrong == "bias")
            self.conv2 = nn.Conv2d(inner, inner, 3, at[1], 1, groups=groups, bias=False)
            self.conv3 = nn.Conv2d(inner, out, 1, at[2], bias=False)
            self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(inner), nn.BatchNorm2d(inner), nn.BatchNorm2d(out)
            self.downsample = None
            if stride != 1 or c != out or wrong == "always":
                way = [nn.Conv2d(c, out, 1, stride, bias=False), nn.BatchNorm2d(out)]
                self.downsample = nn.Sequential(*way[: 1 if wrong == "no norm" else 2])
            if wrong == "shortcut":
                self.shortcut, self.downsample = self.downsample, None
            if wrong == "none":
                self.downsample = None
            if wrong == "name":
                self.norm3, self.bn3 = self.bn3, None  # type: ignore[assignment]

        def forward(self, x: Any) -> Any:
            y = self.bn1(self.conv1(x))
            y = self.bn2(self.conv2(y if wrong == "inner" else y.relu()))
            y = self.conv3(y if wrong in ("inner", "relu2") else y.relu())
            y = y if wrong == "bn3" else self.bn3(y)
            y = y.relu() if wrong == "early" else y
            way = x if self.downsample is None else self.downsample(x)
            y = y if wrong == "no shortcut" else y + way
            return y if wrong in ("early", "late") else y.relu()

    return Block


def burn(how: Callable[..., Any]) -> Callable[..., Any]:
    def answer(x: Any, squeeze: Any, one: Any, three: Any) -> Any:
        s = F.conv2d(x, *squeeze)
        return how(s, F.conv2d(s.relu(), *one), F.conv2d(s.relu(), *three, padding=1), one, three)

    return answer


def chain(one: Callable[..., Any], step: Callable[..., Any], left: bool = True) -> Callable[..., Any]:
    """The product of a block's matrices; ``one`` gets W, the mask of x and that of the sum, and the identity."""

    def answer(weights: Any, x: Any) -> Any:
        eye = torch.eye(len(x), dtype=x.dtype)
        J = eye
        for W in weights:
            masks = [torch.diag((z > 0).to(x.dtype)) for z in (x, x + W @ x)]
            J = one(W, *masks, eye) @ J if left else J @ one(W, *masks, eye)
            x = step(W, x)
        return J

    return answer


def after(one: Callable[..., Any], left: bool = True) -> Callable[..., Any]:
    return chain(one, lambda W, x: (x + W @ x).relu(), left)


def before(one: Callable[..., Any], left: bool = True) -> Callable[..., Any]:
    return chain(one, lambda W, x: x + W @ x.relu(), left)


def by_entries(weights: Any, x: Any) -> Any:
    """The matrices multiplied by * in place of @."""
    J = torch.eye(len(x), dtype=x.dtype)
    for W in weights:
        z = x + W @ x
        J, x = (z > 0)[:, None] * (torch.eye(len(x), dtype=x.dtype) + W) * J, z.relu()
    return J


def pad(x: Any, front: int, back: int) -> Any:
    return F.pad(x, (0, 0, 0, 0, front, back))


# check, answer, part of the message that names the mistake
MISTAKES: list[tuple[str, Any, str]] = [
    ("parameters", bill(lambda m: m.weight.numel()), "biases are missing"),
    ("parameters", bill(lambda m: m.weight.numel() + len(m.weight)), "counted where there is none"),
    ("parameters", bill(lambda m: m.weight.numel() + (m.bias is not None)), "one bias is counted for each layer"),
    (
        "parameters",
        bill(lambda m: m.weight.numel() * getattr(m, "groups", 1) + (0 if m.bias is None else len(m.bias))),
        "groups are ignored",
    ),
    ("parameters", bill(lambda m: m.weight.numel() if isinstance(m, nn.Linear) else 1), "expected"),
    ("parameters", lambda layers, shape: (0.5, 1), "a whole number"),
    ("parameters", lambda layers, shape: 5, "expected 2 results"),
    ("multiply_adds", bill(factor=2), "two operations"),
    ("multiply_adds", bill(groups=False), "groups are ignored"),
    ("multiply_adds", bill(stride=False), "strides are ignored"),
    ("multiply_adds", bill(padding=False), "padding is ignored"),
    ("multiply_adds", bill(dilation=False), "dilation is ignored"),
    ("multiply_adds", bill(output=False), "for each pixel that comes out"),
    ("multiply_adds", bill(bias=True), "only products count"),
    ("multiply_adds", bill(linear=False), "linear layers are missing"),
    ("multiply_adds", bill(biases=True), "this counts the biases"),
    ("multiply_adds", bill(axes=(1, 0)), "read in the wrong order"),
    ("multiply_adds", bill(axes=(0, 0)), "is used twice"),
    ("multiply_adds", bill(exchanged=True), "two results are exchanged"),
    ("multiply_adds", bill(apart=True), "pooling steps by its stride"),
    ("multiply_adds", bill(up=1), "round down"),
    ("parameters", bill(exchanged=True), "two results are exchanged"),
    ("memory_training", sizes(lambda n: sum(n[1:]), 0), "image itself is missing"),
    ("memory_training", sizes(lambda n: sum(n[:-1]), 0), "last output is missing"),
    ("memory_training", sizes(max, 0), "the largest alone"),
    ("memory_training", sizes(lambda n: max(a + b for a, b in itertools.pairwise(n)), 0), "exchanged"),
    ("memory_training", sizes(math.prod, 0), "they add up"),
    ("memory_inference", sizes(max, 1), "its input and its output are both there"),
    ("memory_inference", sizes(lambda n: sum(sorted(n)[-2:]), 1), "only neighbors"),
    ("memory_inference", sizes(sum, 1), "what training keeps"),
    ("memory_inference", sizes(lambda n: sum(n[-2:]), 1), "the last two"),
    ("memory_inference", sizes(lambda n: sum(n[:2]), 1), "the first two"),
    ("fire", burn(lambda s, a, b, p, q: torch.cat([a, b], 1)), "after the expansion is missing"),
    (
        "fire",
        burn(lambda s, a, b, p, q: torch.cat([F.conv2d(s, *p), F.conv2d(s, *q, padding=1)], 1).relu()),
        "after the squeeze layer is missing",
    ),
    ("fire", burn(lambda s, a, b, p, q: torch.cat([b, a], 1).relu()), "wrong order"),
    ("fire", burn(lambda s, a, b, p, q: a.relu()), "1x1 alone"),
    ("fire", burn(lambda s, a, b, p, q: F.conv2d(a, *q, padding=1).relu()), "read the squeezed channels"),
    (
        "parameters",
        lambda layers, shape: (sum(m.weight.numel() + m.bias.numel() for m in weighted(layers)), 1),
        "has bias None",
    ),
    ("multiply_adds", bill(sides=1), "it counts twice"),
    ("multiply_adds", bill(ceil=1), "a kernel does not fit"),
    ("multiply_adds", bill(plain=True), "last window of pooling must fit"),
    ("multiply_adds", bill(square=True), "is taken for a square; read both"),
    ("multiply_adds", bill(each=True), "not for each pixel"),
    ("fire", burn(lambda s, a, b, p, q: torch.cat([a[..., 1:-1, 1:-1], b[..., 1:-1, 1:-1]], 1).relu()), "not padded"),
    ("fire", burn(lambda s, a, b, p, q: (a[:, :1] + b[:, :1]).relu()), "expected shape"),
    ("fire_parameters", lambda c, s, a, b: c * s + s * a + 9 * s * b, "biases are missing"),
    ("fire_parameters", lambda c, s, a, b: (c + 1) * s + (c + 1) * a + (9 * c + 1) * b, "reads the squeezed channels"),
    ("fire_parameters", lambda c, s, a, b: (c + 1) * s + (s + 1) * (a + b), "has 9 weights"),
    ("fire_parameters", lambda c, s, a, b: (c + 1) * s + (s + 1) * a + 9 * (s + 1) * b, "size of the kernel"),
    ("fire_parameters", lambda c, s, a, b: (s + 1) * a + (9 * s + 1) * b, "squeeze layer is missing"),
    ("bottleneck", lambda c, n, out, s, g: Bottleneck(c, out // 4, s, None, g), "torchvision's block"),
    ("bottleneck", module("shortcut"), "no part named downsample"),
    ("bottleneck", module("first"), "the stride is at conv1"),
    ("bottleneck", module("third"), "the stride is at conv3"),
    ("bottleneck", module("late"), "after the addition is missing"),
    ("bottleneck", module("early"), "can never subtract"),
    ("bottleneck", module("no norm"), "downsample.1 is missing"),
    ("bottleneck", module("no shortcut"), "the shortcut is missing"),
    ("bottleneck", module("inner"), "both ReLUs"),
    ("bottleneck", module("relu2"), "after bn2 is missing"),
    ("bottleneck", module("bn3"), "bn3 is never used"),
    ("bottleneck", module("groups"), "belongs to conv2"),
    ("bottleneck", module("always"), "nothing has to be projected"),
    ("bottleneck", module("none"), "no part named downsample"),
    ("bottleneck", module("bias"), "needs no bias"),
    ("bottleneck", module("name"), "expected a part named bn3"),
    ("padded_shortcut", lambda x, out, s: pad(x[..., ::s, ::s], out - x.shape[1], 0), "stand in front"),
    ("padded_shortcut", lambda x, out, s: pad(x, 0, out - x.shape[1]), "stride is ignored"),
    ("padded_shortcut", lambda x, out, s: pad(x[:, :, ::s], 0, out - x.shape[1]), "columns have the same stride"),
    ("padded_shortcut", lambda x, out, s: x[..., ::s, ::s], "channels are not padded"),
    (
        "padded_shortcut",
        lambda x, out, s: pad(F.avg_pool2d(x, s, s, ceil_mode=True), 0, out - x.shape[1]),
        "pixels are averaged",
    ),
    ("padded_shortcut", lambda x, out, s: pad(x[..., ::s, ::s], 0, out), "as many as are missing"),
    ("original", after(lambda W, m, n, eye: eye + W), "after the addition is ignored"),
    ("original", after(lambda W, m, n, eye: n @ W), "shortcut is missing"),
    ("original", after(lambda W, m, n, eye: eye + n @ W), "masks the branch only"),
    ("original", after(lambda W, m, n, eye: m @ (eye + W)), "looks at the input x"),
    ("original", after(lambda W, m, n, eye: (eye + W) @ n), "mask is on the wrong side"),
    ("original", after(lambda W, m, n, eye: n @ (eye + W), left=False), "in the wrong order"),
    ("original", after(lambda W, m, n, eye: n @ (1 + W)), "1 is added to every entry"),
    ("original", chain(lambda W, m, n, eye: n @ (eye + W), lambda W, x: x + W @ x), "it gets what this block returns"),
    ("original", by_entries, "entry by entry"),
    ("preactivation", before(lambda W, m, n, eye: W @ m), "shortcut is missing"),
    ("preactivation", before(lambda W, m, n, eye: eye + W), "ReLU in the branch is ignored"),
    ("preactivation", before(lambda W, m, n, eye: eye + m @ W), "mask is on the wrong side"),
    ("preactivation", before(lambda W, m, n, eye: (eye + W) @ m), "shortcut is masked as well"),
    ("preactivation", before(lambda W, m, n, eye: eye + W @ m, left=False), "in the wrong order"),
    ("branch_std", lambda n, growth: ((growth - 1) / n) ** 0.5, "take the n-th root"),
    ("branch_std", lambda n, growth: growth ** (1 / n) - 1, "s squared"),
    ("branch_std", lambda n, growth: 0, "adds nothing"),
    ("branch_std", lambda n, growth: growth ** (0.5 / n) - 1, "not (1 + s)**2"),
    ("branch_std", lambda n, growth: growth ** (0.5 / n), "shortcut is forgotten"),
    ("branch_std", lambda n, growth: (growth - 1) ** 0.5, "number of blocks is ignored"),
    ("branch_std", lambda n, growth: (math.log(growth) / n) ** 0.5, "logarithm"),
]


@pytest.mark.parametrize(("check", "answer", "message"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(check: str, answer: Any, message: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong", verdict
    assert message in verdict.message


CHECKS = ["parameters", "multiply_adds", *MEMORY, *squeezing.__all__, *blocks.__all__, *gradients.__all__]


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_knows_four_mistakes(check: str) -> None:
    assert len({message for name, _, message in MISTAKES if name == check}) >= 4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_derived_factor_gives_the_growth_of_random_preactivation_blocks(seed: int) -> None:
    """The mean square of the Jacobian's entries, times their number in a row, grows like the mean square of x."""
    g, D, depth, growth = torch.Generator().manual_seed(seed), 256, 10, 4.0
    s = (growth ** (1 / depth) - 1) ** 0.5
    x = torch.randn(D, generator=g, dtype=torch.float64)
    for _ in range(depth):  # the branch has a mean of 0 and the mean square of x, as the exercise says
        x = x + s * x.square().mean().sqrt() * torch.randn(D, generator=g, dtype=torch.float64)
    assert 2.4 < x.square().mean() < 6.5


def test_the_layers_of_a_case_fit_each_other_and_have_what_the_text_promises() -> None:
    for layers, shape in (case for seed in range(4) for case in budgets._networks(seed)):
        nn.Sequential(*layers)(torch.zeros(1, *shape))
        kinds = {type(layer) for layer in layers}
        assert kinds <= {nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear}
