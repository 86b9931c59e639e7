"""Each check accepts right answers, written in two ways, and names what is wrong with the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks import equivariance as check
from cvbook.equivariance import blur_kernel, blur_pool, equivariance_error, translate

TRUTH = {
    "ReLU": "equivariant",
    "circular convolution": "equivariant",
    "zero-padded convolution": "neither",
    "every 2nd pixel, shift 1": "neither",
    "every 2nd pixel, shift 2": "equivariant",
    "global average": "invariant",
    "flatten, then linear": "neither",
}


def test_commutes_accepts_the_measured_table() -> None:
    assert check.commutes(TRUTH).passed
    assert check.commutes(dict(reversed(TRUTH.items()))).passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ReLU": "neither"}, "ReLU: measured, it is equivariant, not neither: it acts on each pixel alone"),
        ({"zero-padded convolution": "equivariant"}, "it is neither, not equivariant: at the border it reads zeros"),
        ({"every 2nd pixel, shift 1": "equivariant"}, "even shifts only"),
        ({"every 2nd pixel, shift 2": "neither"}, "same pixels"),
        ({"global average": "equivariant"}, "no position is left"),
        ({"flatten, then linear": "equivariant"}, "other weights"),
        (dict.fromkeys(TRUTH, "equivariant"), "not everything"),
        ({"ReLU": "yes"}, "expected one of"),
    ],
)
def test_commutes_names_the_mistake(change: dict[str, str], message: str) -> None:
    verdict = check.commutes(TRUTH | change)
    assert verdict.state == "wrong"
    assert message in verdict.message


def test_commutes_unattempted() -> None:
    assert check.commutes(dict.fromkeys(TRUTH, None)).state == "not attempted"
    verdict = check.commutes(TRUTH | {"global average": ...})
    assert verdict.state == "not attempted"
    assert verdict.message == "still empty: global average"


def by_rolls(x: Tensor) -> Tensor:
    x = (x.roll(1, -1) + 2 * x + x.roll(-1, -1)) / 4
    return ((x.roll(1, -2) + 2 * x + x.roll(-1, -2)) / 4)[..., ::2, ::2]


def _pool(x: Tensor, kernel: Tensor, mode: str = "circular") -> Tensor:
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=mode), kernel.expand(3, 1, 3, 3), groups=3)


def in_float32(x: Tensor) -> Tensor:
    return _pool(x, torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1])) / 16)[..., ::2, ::2]


def in_float64(x: Tensor) -> Tensor:
    row = torch.tensor([1.0, 2, 1], dtype=torch.float64) / 4  # as in the lesson
    return _pool(x, torch.outer(row, row))[..., ::2, ::2]


@pytest.mark.parametrize("answer", [by_rolls, lambda x: blur_pool(x, padding_mode="circular"), in_float32, in_float64])
def test_blurred_accepts(answer: Callable[[Tensor], Tensor]) -> None:
    assert check.blurred(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: torch.zeros(2, 3, 4, 6), "zero"),
        (lambda x: _pool(x, blur_kernel(3)), "every second one"),
        (lambda x: _pool(x[..., ::2, ::2], blur_kernel(3)), "damage is done"),
        (lambda x: x[..., ::2, ::2], "without a blur"),
        (lambda x: 16 * by_rolls(x), "does not sum to 1"),
        (lambda x: 4 * by_rolls(x), "by 16 in all"),
        (lambda x: _pool(x, torch.full((3, 3), 1 / 9))[..., ::2, ::2], "equal weights"),
        (lambda x: _pool(x, blur_kernel(3), "constant")[..., ::2, ::2], "padded with zeros"),
        (lambda x: blur_pool(x), "reflected"),
        (lambda x: _pool(x, blur_kernel(3))[..., 1::2, 1::2], "number 0"),
        (lambda x: ((x.roll(1, -1) + 2 * x + x.roll(-1, -1)) / 4)[..., ::2, ::2], "along the rows only"),
        (lambda x: ((x.roll(1, -2) + 2 * x + x.roll(-1, -2)) / 4)[..., ::2, ::2], "along the columns only"),
        (lambda x: by_rolls(x).sum(1, keepdim=True).expand(-1, 3, -1, -1), "mixed"),
    ],
)
def test_blurred_names_the_mistake(answer: Callable[[Tensor], Tensor], message: str) -> None:
    verdict = check.blurred(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def loop_product(strides: list[int]) -> int:
    total = 1
    for stride in strides:
        total *= stride
    return total


@pytest.mark.parametrize("answer", [math.prod, loop_product])
def test_period_accepts(answer: Callable[[list[int]], int]) -> None:
    assert check.period(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda s: 0, "expected 12 for strides [2, 3, 2], got 0. Each"),
        (lambda s: sum(s) + 1, "got 8. Each"),
        (max, "the largest stride"),
        (sum, "the sum"),
        (len, "number of layers"),
        (lambda s: s[0], "the first stride"),
        (lambda s: s[-1], "the last stride"),
        (lambda s: math.lcm(*s), "got 6; this is the least common multiple"),
        (lambda s: math.prod(s) / 2, "half the product"),
        (lambda s: math.prod(s) // 2, "half the product, rounded down"),
        (lambda s: 2 * math.prod(s), "twice"),
        (lambda s: math.prod(s) if s != [2, 2] else 2, "expected 4 for strides [2, 2], got 2. Each"),
    ],
)
def test_period_names_the_mistake(answer: Callable[[list[int]], int], message: str) -> None:
    verdict = check.period(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def impulse(g: Callable[[Tensor], Tensor], height: int, width: int) -> Tensor:
    x = torch.zeros(height, width, dtype=torch.float64)
    x[0, 0] = 1
    return g(x)


def impulse_elsewhere(g: Callable[[Tensor], Tensor], height: int, width: int) -> Tensor:
    return translate(impulse(lambda x: g(translate(x, 1, 2)), height, width), -1, -2)


@pytest.mark.parametrize("answer", [impulse, impulse_elsewhere])
def test_impulse_response_accepts(answer: Callable[..., Tensor]) -> None:
    assert check.impulse_response(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda g, h, w: torch.zeros(h, w), "zero"),
        (lambda g, h, w: g(torch.ones(h, w)), "image of ones"),
        (lambda g, h, w: translate(impulse(g, h, w), 2, 3), "comes out shifted"),
        (lambda g, h, w: impulse(g, h, w).flip(0, 1).roll((1, 1), (0, 1)), "flipped"),
        (lambda g, h, w: impulse(g, h, w).T, "swapped"),
    ],
)
def test_impulse_response_names_the_mistake(answer: Callable[..., Tensor], message: str) -> None:
    verdict = check.impulse_response(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def test_blur_width_agrees_with_a_direct_search() -> None:
    from cvbook.data import photograph

    x = photograph("cat", size=128, grey=True)[None]
    widths = range(1, 12)
    errors = [
        equivariance_error(lambda x, w=w: blur_pool(x, stride=4, width=w, padding_mode="circular"), x, (0, 2), stride=4)
        for w in widths
    ]
    right = next(w for w, error in zip(widths, errors, strict=True) if error < 0.04)
    assert check.blur_width(right).passed
    assert check.blur_width(float(right)).passed
    assert "still" in check.blur_width(right - 1).message
    assert "not an error" in check.blur_width(0.04).message
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
    framed = F.pad(x, (1, 1, 1, 1), mode="circular")
    edges = (F.conv2d(framed, sobel).square() + F.conv2d(framed, sobel.mT).square()).sqrt()
    for_edges = next(
        w
        for w in range(1, 40)
        if equivariance_error(
            lambda x, w=w: blur_pool(x, stride=4, width=w, padding_mode="circular"), edges, (0, 2), stride=4
        )
        < 0.04
    )
    assert "edges(cat)" in check.blur_width(for_edges).message
    assert for_edges != right
    assert "narrower" in check.blur_width(right + 1).message
    assert "expected a width" in check.blur_width("wide").message
    assert check.blur_width(None).state == "not attempted"


SQUARE = [(dy, dx) for dy in range(4) for dx in range(4)]
Net = Callable[[Tensor], Tensor]


def averaged(net: Net, x: Tensor, shifts: Any = SQUARE, mode: str = "circular") -> Tensor:
    return sum(net(translate(x, dy, dx, mode=mode)) for dy, dx in shifts) / len(shifts)


@pytest.mark.parametrize("answer", [averaged, lambda net, x: averaged(net, x, [(a - 5, b + 9) for a, b in SQUARE])])
def test_shift_averaged_accepts(answer: Callable[[Net, Tensor], Tensor]) -> None:
    assert check.shift_averaged(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda net, x: torch.zeros(2, 4), "zero"),
        (lambda net, x: net(x), "without any averaging"),
        (lambda net, x: 16 * averaged(net, x), "divide by 16"),
        (lambda net, x: averaged(net, x, [(d, d) for d in range(4)]), "diagonal"),
        (lambda net, x: averaged(net, x, [(0, d) for d in range(4)]), "one axis"),
        (lambda net, x: averaged(net, x, [(d, 0) for d in range(4)]), "down only"),
        (lambda net, x: averaged(net, x, [(a, b) for a in range(2) for b in range(2)]), "total stride is 4"),
        (lambda net, x: averaged(net, x, [(a, b) for a in range(5) for b in range(5)]), "uneven"),
        (lambda net, x: averaged(net, x, mode="zeros"), "use the torus"),
        (lambda net, x: averaged(lambda x: net(x).softmax(1), x), "average the logits"),
        (lambda net, x: net(sum(translate(x, a, b) for a, b in SQUARE) / 16), "average the outputs"),
    ],
)
def test_shift_averaged_names_the_mistake(answer: Callable[[Net, Tensor], Tensor], message: str) -> None:
    verdict = check.shift_averaged(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("name", ["blurred", "impulse_response", "period", "shift_averaged"])
def test_a_stub_is_not_attempted(name: str) -> None:
    assert getattr(check, name)(lambda *_: None).state == "not attempted"
