"""Each check takes right answers, however written, and names what is wrong with the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.checks import what_came_next as checks
from cvbook.cnns.squeeze_excitation import SqueezeExcitation
from cvbook.recipes.what_came_next import network


def rejects(verdict: Any, message: str) -> None:
    assert verdict.state == "wrong"
    assert message in verdict.message


def counted(k, n, alpha, rho, m=64, side=8):
    """The ratio by counting multiply-adds, not by a formula."""
    dense = side**2 * k * k * m * n
    pixels = (rho * side) ** 2
    return (pixels * k * k * alpha * m + pixels * alpha * m * alpha * n) / dense


@pytest.mark.parametrize("answer", [counted, lambda k, n, a, r: r**2 * (a / n + a**2 / k**2)])
def test_ratio_accepts(answer: Any) -> None:
    assert checks.ratio(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda k, n, a, r: (a * r) ** 2 * (1 / n + 1 / k**2), "shrinks with alpha only"),
        (lambda k, n, a, r: a * r**2 * (1 / n + 1 / k**2), "only the input is thinned"),
        (lambda k, n, a, r: 1 / counted(k, n, a, r), "dense over separable"),
        (lambda k, n, a, r: r * (a / n + a**2 / k**2), "with its square"),
        (lambda k, n, a, r: a / n + a**2 / k**2, "rho is missing"),
        (lambda k, n, a, r: r**2 * (1 / n + 1 / k**2), "alpha is missing"),
        (lambda k, n, a, r: r**2 * (a / n + a**2 / k), "k times k pixels"),
        (lambda k, n, a, r: r**2 * a**2 / k**2, "depthwise part is missing"),
        (lambda k, n, a, r: r**2 * a / n, "pointwise part is missing"),
        (lambda k, n, a, r: 1 / (a * n) + 1 / k**2, "thinned and shrunk as well"),
        (lambda k, n, a, r: r**2 * (a**2 / n + a / k**2), "belongs to the pointwise part"),
        (lambda k, n, a, r: (a * r) ** 2, "thin against wide"),
        (lambda k, n, a, r: 0.0, "everything is zero"),
        (lambda k, n, a, r: 0.126736, "for k = 5"),
    ],
)
def test_ratio_names_the_mistake(answer: Any, message: str) -> None:
    rejects(checks.ratio(answer), message)


def pair(m, n, k, stride, *, groups=None, point=1, bias=False, late=False, pad=True):
    """Two convolutions, with mistakes to order."""
    first, second = (1, stride) if late else (stride, 1)
    p = k // 2 if pad else 0
    return nn.Sequential(
        nn.Conv2d(m, m, k, stride=first, padding=p, groups=groups or m, bias=bias),
        nn.Conv2d(m, n, point, stride=second, padding=point // 2, bias=bias),
    )


class ByHand(nn.Module):
    def __init__(self, m: int, n: int, k: int, stride: int) -> None:
        super().__init__()
        self.depth, self.point = nn.Parameter(torch.randn(m, 1, k, k)), nn.Parameter(torch.randn(n, m))
        self.k, self.stride = k, stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.depth, stride=self.stride, padding=self.k // 2, groups=x.shape[1])
        return torch.einsum("nm,bmhw->bnhw", self.point, x)


@pytest.mark.parametrize("answer", [pair, ByHand])
def test_separable_accepts(answer: Any) -> None:
    assert checks.separable(answer).passed


class Rotated(ByHand):
    """The right counts, but the kernels of a channel differ from output to output."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return torch.cat([y[:, :1], super().forward(x.flip(-1)).flip(-1)[:, 1:]], 1)


class Expensive(ByHand):
    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) + super().forward(x)) / 2


def circular(m, n, k, stride):
    module = pair(m, n, k, stride)
    module[0].padding_mode = "circular"
    module[0]._reversed_padding_repeated_twice = [k // 2] * 4
    return module


def zeroed(m, n, k, stride):
    module = pair(m, n, k, stride)
    nn.init.zeros_(module[1].weight)
    return module


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda m, n, k, s: nn.Conv2d(m, n, k, stride=s, padding=k // 2, bias=False), "the dense convolution"),
        (lambda m, n, k, s: pair(m, n, k, s, groups=1), "it needs groups = c_in"),
        (
            lambda m, n, k, s: pair(m, n, k, s, groups=n if m % n == 0 else m) if n < m else pair(m, n, k, s, groups=m),
            "groups = c_out",
        ),
        (lambda m, n, k, s: pair(m, n, k, s, groups=n), "must be divisible by groups"),
        (lambda m, n, k, s: pair(m, n, k, s, point=k), "its kernel is 1x1"),
        (lambda m, n, k, s: pair(m, n, k, s, bias=True), "there are biases"),
        (lambda m, n, k, s: pair(m, n, k, s, late=True), "the stride belongs to the depthwise step"),
        (lambda m, n, k, s: pair(m, n, k, s, pad=False), "padding is k // 2"),
        (
            lambda m, n, k, s: nn.Sequential(
                nn.Conv2d(m, n, 1, bias=False),
                nn.Conv2d(n, n, k, stride=s, padding=k // 2, groups=n, bias=False),
            ),
            "the 1x1 convolution comes first",
        ),
        (lambda m, n, k, s: nn.Conv2d(m, n, 1, stride=s, bias=False), "the depthwise convolution is missing"),
        (lambda m, n, k, s: nn.Sequential(*pair(m, n, k, s), nn.BatchNorm2d(n)), "there is a normalization"),
        (lambda m, n, k, s: nn.Sequential(pair(m, n, k, s)[0], nn.ReLU(), pair(m, n, k, s)[1]), "not linear"),
        (lambda m, n, k, s: nn.Sequential(pair(m, n, k, s)[0], nn.Tanh(), pair(m, n, k, s)[1]), "not linear"),
        (lambda m, n, k, s: nn.Identity(), "expected 8 output channels"),
        (circular, "at the border"),
        (lambda m, n, k, s: pair(m, n, k, 1), "check the stride"),
        (Rotated, "different kernels by different outputs"),
        (Expensive, "multiply-adds"),
        (zeroed, "has no effect"),
        (lambda m, n, k, s: torch.zeros(n, m, k, k), "expected an nn.Module, got Tensor"),
    ],
)
def test_separable_names_the_mistake(answer: Any, message: str) -> None:
    rejects(checks.separable(answer), message)


def chunks(x, weight, groups):
    k = weight.shape[-1]
    pairs = zip(x.chunk(groups, 1), weight.chunk(groups), strict=True)
    return torch.cat([F.conv2d(a, b, padding=k // 2) for a, b in pairs], 1)


def block_diagonal(x, weight, groups):
    c_out, per, k, _ = weight.shape
    dense = torch.zeros(c_out, x.shape[1], k, k)
    for g in range(groups):
        rows = slice(g * c_out // groups, (g + 1) * c_out // groups)
        dense[rows, g * per : (g + 1) * per] = weight[rows]
    return F.conv2d(x, dense, padding=k // 2)


def emptied(x, weight, groups):
    y = torch.zeros_like(chunks(x, weight, groups))
    x.zero_()
    weight.zero_()
    return y


def by_windows(x, weight, groups):
    k = weight.shape[-1]
    B, _, H, W = x.shape
    windows = F.unfold(x, k, padding=k // 2).view(B, groups, -1, H * W)
    y = torch.einsum("gop,bgpn->bgon", weight.view(groups, len(weight) // groups, -1), windows)
    return y.reshape(B, -1, H, W)


@pytest.mark.parametrize("answer", [chunks, block_diagonal, by_windows])
def test_grouped_accepts(answer: Any) -> None:
    assert checks.grouped(answer).passed


def parts(x, weight, groups, *, comb=False, comb_kernels=False):
    xs = [x[:, g::groups] for g in range(groups)] if comb else x.chunk(groups, 1)
    ws = [weight[g::groups] for g in range(groups)] if comb_kernels else weight.chunk(groups)
    return [F.conv2d(a, b, padding=weight.shape[-1] // 2) for a, b in zip(xs, ws, strict=True)]


def by_layer(x, weight, groups):
    k = weight.shape[-1]
    layer = nn.Conv2d(x.shape[1], len(weight), k, padding=k // 2, groups=groups, bias=False)
    layer.weight.data = weight
    return layer(x)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x, w, g: torch.cat(parts(x, w, g, comb=True), 1), "its channels are neighbors"),
        (lambda x, w, g: torch.cat(parts(x, w, g, comb_kernels=True), 1), "every g-th kernel"),
        (lambda x, w, g: torch.stack(parts(x, w, g), 2).flatten(1, 2), "shuffled"),
        (lambda x, w, g: sum(parts(x, w, g)), "are added"),
        (lambda x, w, g: chunks(x[:, : x.shape[1] // g].repeat(1, g, 1, 1), w, g), "the first channels of x"),
        (lambda x, w, g: chunks(x, w[: len(w) // g].repeat(g, 1, 1, 1), g), "the first kernels"),
        (lambda x, w, g: chunks(x, w, g)[..., 1:-1], "expected shape"),
        (lambda x, w, g: F.conv2d(x, w), "your code stopped with RuntimeError"),
        (emptied, "changes a tensor"),
        (lambda x, w, g: torch.zeros_like(chunks(x, w, g)), "everything is zero"),
        (lambda x, w, g: F.conv2d(x, w, padding=w.shape[-1] // 2, groups=g), "with groups=2 was called"),
        (lambda x, w, g: torch.conv2d(x, w, padding=w.shape[-1] // 2, groups=g), "with groups=2 was called"),
        (by_layer, "with groups=2 was called"),
    ],
)
def test_grouped_names_the_mistake(answer: Any, message: str) -> None:
    rejects(checks.grouped(answer), message)


def gates(x, w1, b1, w2, b2, *, squeeze=lambda x: x.mean((2, 3)), middle=torch.relu, end=torch.sigmoid):
    return end(F.linear(middle(F.linear(squeeze(x), w1, b1)), w2, b2))[:, :, None, None]


def by_the_library(x, w1, b1, w2, b2):
    block = SqueezeExcitation(x.shape[1], len(w1))
    state = {"fc1.weight": w1[:, :, None, None], "fc1.bias": b1, "fc2.weight": w2[:, :, None, None], "fc2.bias": b2}
    block.load_state_dict(state)
    return block(x)


@pytest.mark.parametrize("answer", [lambda *a: a[0] * gates(*a), by_the_library])
def test_excite_accepts(answer: Any) -> None:
    assert checks.excite(answer).passed


def in_place(*arguments):
    return arguments[0].mul_(gates(*arguments))


def zeroed_afterwards(*arguments):
    y = arguments[0] * gates(*arguments)
    arguments[0].zero_()
    return y


def no_bias(x, w1, b1, w2, b2, first=0.0, second=0.0):
    return x * gates(x, w1, first * b1, w2, second * b2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (in_place, "changes a tensor"),
        (zeroed_afterwards, "changes a tensor"),
        (no_bias, "both biases"),
        (lambda *a: no_bias(*a, second=1.0), "b1 is missing"),
        (lambda *a: no_bias(*a, first=1.0), "b2 is missing"),
        (lambda *a: a[0] * gates(*a, middle=lambda t: t), "ReLU between"),
        (lambda *a: a[0] * gates(*a, end=lambda t: t.softmax(1)), "softmax makes the channels compete"),
        (lambda *a: a[0] * gates(*a, end=lambda t: t), "the sigmoid is missing"),
        (lambda *a: a[0] * gates(*a, squeeze=lambda x: x.sum((2, 3))), "not the sum"),
        (lambda *a: a[0] * gates(*a, squeeze=lambda x: x.amax((2, 3))), "not the maximum"),
        (lambda *a: a[0] * gates(*a, squeeze=lambda x: x.mean((0, 2, 3))[None]), "all images share one gate"),
        (gates, "these are the gates, (B, C, 1, 1)"),
        (lambda *a: gates(*a)[..., 0, 0], "these are the gates, (B, C);"),
        (lambda *a: a[0] + gates(*a), "they multiply"),
        (lambda *a: a[0] + a[0] * gates(*a), "added once more"),
        (
            lambda x, w1, b1, w2, b2: (
                x * torch.sigmoid(torch.relu(x.movedim(1, -1) @ w1.T + b1) @ w2.T + b2).movedim(-1, 1)
            ),
            "each pixel has its own gate",
        ),
        (lambda *a: torch.zeros_like(a[0]), "everything is zero"),
        (lambda *a: a[0], "expected"),
    ],
)
def test_excite_names_the_mistake(answer: Any, message: str) -> None:
    rejects(checks.excite(answer), message)


def built(width: int, side: int) -> Any:
    return lambda: (network(width, separable=True), side)


def test_quarter_accepts() -> None:
    assert checks.quarter(built(32, 28), built(16, 28), built(32, 14)).passed
    assert checks.quarter(built(32, 28), built(15, 28), lambda: [network(32, separable=True), 14]).passed


@pytest.mark.parametrize(
    ("thin", "small", "message"),
    [
        (built(16, 14), built(32, 14), "the images keep their side 28"),
        (built(8, 28), built(32, 14), "with the square"),
        (built(32, 28), built(32, 14), "give it fewer channels"),
        (built(16, 28), built(16, 14), "rho changes the images, not the network"),
        (built(16, 28), built(32, 7), "small costs 0.0"),
        (built(16, 28), built(32, 28), "small costs 1.00"),
        (lambda: 0.5, built(32, 14), "expected two things from thin"),
        (lambda: network(16, separable=True), built(32, 14), "expected two things from thin"),
        (lambda: (network(16), 28), built(32, 14), "keep separable=True"),
    ],
)
def test_quarter_names_the_mistake(thin: Any, small: Any, message: str) -> None:
    rejects(checks.quarter(built(32, 28), thin, small), message)


@pytest.mark.parametrize("name", ["ratio", "separable", "grouped", "excite"])
def test_stubs_are_not_attempted(name: str) -> None:
    check = getattr(checks, name)
    assert check(None).state == "not attempted"
    assert check(lambda *arguments: ...).state == "not attempted"
    assert check(lambda *arguments: None).state == "not attempted"


def test_quarter_stub_is_not_attempted() -> None:
    assert checks.quarter(built(32, 28), lambda: ..., lambda: ...).state == "not attempted"
    verdict = checks.quarter(built(32, 28), built(16, 28), lambda: None)
    assert verdict.state == "not attempted"
    assert "small is still empty" in verdict.message
