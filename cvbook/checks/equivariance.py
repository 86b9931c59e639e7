"""Checks of the lesson on equivariance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.checks.verdict import Missing, Wrong, equal, exercise
from cvbook.equivariance import blur_kernel, equivariance_error, translate

__all__ = ["blur_width", "blurred", "commutes", "impulse_response", "period", "shift_averaged"]

WORDS = ("equivariant", "invariant", "neither")


def _layers() -> dict[str, tuple[Callable[[Tensor], Tensor], int, int]]:
    """Layer -> (function, shift, pixels of the input in one pixel of the output)."""
    weight = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    linear = nn.Linear(64, 4).double()

    def circular(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight)

    return {
        "ReLU": (torch.relu, 1, 1),
        "circular convolution": (circular, 1, 1),
        "zero-padded convolution": (lambda x: F.conv2d(x, weight, padding=1), 1, 1),
        "every 2nd pixel, shift 1": (lambda x: x[..., ::2, ::2], 1, 2),
        "every 2nd pixel, shift 2": (lambda x: x[..., ::2, ::2], 2, 2),
        "global average": (lambda x: x.mean((2, 3)), 1, 1),
        "flatten, then linear": (lambda x: linear(x.flatten(1)), 1, 1),
    }


def _measured() -> dict[str, str]:
    x, found = torch.randn(1, 1, 8, 8, dtype=torch.float64), {}
    for name, (f, shift, stride) in _layers().items():
        y, moved = f(x), f(translate(x, 0, shift))
        if torch.allclose(y, moved):
            found[name] = "invariant"
        elif y.ndim == 4 and equivariance_error(f, x, (0, shift), stride=stride) < 1e-9:
            found[name] = "equivariant"
        else:
            found[name] = "neither"
    return found


@exercise("What commutes with a shift?")
def commutes(answers: Mapping[str, str | None]) -> str:
    """``answers``: layer -> ``"equivariant"``, ``"invariant"`` or ``"neither"``; the truth is measured."""
    truth = _measured()
    empty = [name for name in truth if answers.get(name) in (None, ...)]
    if len(empty) == len(truth):
        raise NotImplementedError
    if empty:
        raise Missing(f"still empty: {'; '.join(empty)}")
    if unknown := [a for a in answers.values() if a not in WORDS]:
        raise Wrong(f"expected one of {', '.join(WORDS)} for each layer, got {unknown[0]!r}")
    if all(answers[name] == "equivariant" for name in truth):
        raise Wrong("not everything commutes with a shift; look for a border, a sampling grid and a lost position")
    why = {
        "ReLU": "it acts on each pixel alone, wherever the pixel is",
        "circular convolution": "on the torus every position has the same neighbors; the output moves along",
        "zero-padded convolution": "at the border it reads zeros that do not move with the image",
        "every 2nd pixel, shift 1": "the grid now sees the other pixels; stride 2 commutes with even shifts only",
        "every 2nd pixel, shift 2": "after an even shift the grid sees the same pixels, one output position further",
        "global average": "a sum does not depend on the order of its terms, so no position is left that could move",
        "flatten, then linear": "each position has its own weight, so a moved image meets other weights",
    }  # fmt: skip
    for name, right in truth.items():
        if answers[name] != right:
            is_ = "is neither" if right == "neither" else f"is {right}"
            raise Wrong(f"{name}: measured, it {is_}, not {answers[name]}: {why[name]}")
    return "right, as measured on a random image"


@exercise("Blur, then subsample")
def blurred(f: Callable[[Tensor], Tensor]) -> None:
    """``f(x)``: binomial blur of width 3 on the torus, then every second pixel."""
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    kernel = blur_kernel(3).double()

    def answer(x: Tensor) -> Tensor:
        try:
            return f(x.clone())
        except RuntimeError:  # perhaps a float32 kernel; the lesson's own is float64
            return f(x.float())

    def pool(x: Tensor, kernel: Tensor, mode: str = "circular") -> Tensor:
        weight = kernel.expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=mode), weight, groups=x.shape[1])

    def along(dim: int) -> Tensor:
        return ((x.roll(1, dim) + 2 * x + x.roll(-1, dim)) / 4)[..., ::2, ::2]

    right = pool(x, kernel)[..., ::2, ::2]
    equal(
        answer(x),
        right,
        what="2 images of 3 channels and 8x12 pixels",
        mistakes={
            "this blurs but keeps every pixel; take every second one: [..., ::2, ::2]": lambda: pool(x, kernel),
            "this blurs along the rows only; blur along the columns, too": lambda: along(-1),
            "this blurs along the columns only; blur along the rows, too": lambda: along(-2),
            "you subsample first and blur afterwards: the damage is done before the blur comes": lambda: pool(
                x[..., ::2, ::2], kernel
            ),
            "this keeps every second pixel without a blur": lambda: x[..., ::2, ::2],
            "the kernel does not sum to 1: divide [1, 2, 1] by 4 along each axis": lambda: 16 * right,
            "divide by 4 along each axis, that is by 16 in all": lambda: 4 * right,
            "these are equal weights 1/9; the binomial kernel is the outer product of [1, 2, 1] / 4 with itself": (
                lambda: pool(x, torch.full_like(kernel, 1 / 9))[..., ::2, ::2]
            ),
            "the border is padded with zeros; on the torus use mode='circular'": lambda: pool(x, kernel, "constant")[
                ..., ::2, ::2
            ],
            "the border is reflected; on the torus use mode='circular'": lambda: pool(x, kernel, "reflect")[
                ..., ::2, ::2
            ],
            "the first pixel kept is number 0, not number 1": lambda: pool(x, kernel)[..., 1::2, 1::2],
            "channels are mixed; blur each one alone: groups = number of channels": lambda: right.sum(
                1, keepdim=True
            ).expand_as(right),
        },
    )


@exercise("Period of a network")
def period(f: Callable[[list[int]], int]) -> None:
    """``f(strides)``: the smallest shift > 0 after which a circular network with these strides repeats itself."""
    cases = [[2, 3, 2], [2, 2], [1, 3, 1], [4, 2, 1, 2, 1], [1]]
    got = [f(list(strides)) for strides in cases]
    if any(value is None or value is ... for value in got):
        raise NotImplementedError
    right = [math.prod(strides) for strides in cases]
    if got == right:
        return
    mistakes: dict[str, Callable[[list[int]], float]] = {
        "the sum of the strides": sum,
        "the largest stride": max,
        "the first stride": lambda strides: strides[0],
        "the last stride": lambda strides: strides[-1],
        "the number of layers": len,
        "the least common multiple of the strides": lambda strides: math.lcm(*strides),
        "half the product": lambda strides: math.prod(strides) / 2,
        "half the product, rounded down": lambda strides: math.prod(strides) // 2,
        "twice the product": lambda strides: 2 * math.prod(strides),
    }
    strides, wanted, value = next(z for z in zip(cases, right, got, strict=True) if z[1] != z[2])
    named = next((f"; this is {name}" for name, g in mistakes.items() if [g(s) for s in cases] == got), "")
    raise Wrong(
        f"expected {wanted} for strides {strides}, got {value}{named}. Each layer divides the shift by its stride"
    )


@exercise("Every equivariant linear map is a convolution")
def impulse_response(f: Callable[[Callable[[Tensor], Tensor], int, int], Tensor]) -> None:
    """``f(g, height, width)``: the kernel ``k`` with ``g(x)[p] = sum over q of x[q] k[p - q]`` on the torus."""
    kernel = torch.randn(5, 7, dtype=torch.float64)

    def g(x: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(x) * torch.fft.fft2(kernel.to(x.dtype))).real

    equal(
        f(g, 5, 7),
        kernel,
        what="a secret equivariant map of 5x7 images",
        mistakes={
            "the impulse is not at position (0, 0), so the kernel comes out shifted": lambda: translate(kernel, 2, 3),
            "the kernel is flipped: k[p - q], not k[q - p]": lambda: kernel.flip(0, 1).roll((1, 1), (0, 1)),
            "this feeds an image of ones: its response is the sum of the kernel everywhere": lambda: (
                kernel.sum().expand(5, 7)
            ),
            "height and width are swapped": lambda: kernel.T,
        },
    )


@exercise("The narrowest blur that is enough")
def blur_width(answer: float) -> str:
    """``answer``: smallest width with an error below 4 % at stride 4, see the exercise; measured again here."""
    from cvbook.data import photograph
    from cvbook.equivariance import blur_pool

    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        raise Wrong(f"expected a width such as 3, got {answer!r}")
    if answer < 1:
        raise Wrong(f"expected a width in pixels, 1 or more, not an error; got {answer!r}")
    cat = photograph("cat", size=128, grey=True)[None].double()

    def error(width: int, x: Tensor) -> float:
        return equivariance_error(
            lambda x: blur_pool(x, stride=4, width=width, padding_mode="circular"), x, (0, 2), stride=4
        )

    def narrowest(x: Tensor) -> int:
        return next(width for width in range(1, 40) if error(width, x) < 0.04)

    right = narrowest(cat)
    if answer == right:
        below = 100 * error(right - 1, cat)
        return f"right: {100 * error(right, cat):.2f} % at width {right}, {below:.2f} % at width {right - 1}"
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=cat.dtype)
    framed = F.pad(cat, (1, 1, 1, 1), mode="circular")
    if answer == narrowest(F.conv2d(framed, torch.stack([sobel, sobel.T])[:, None]).norm(dim=1, keepdim=True)):
        raise Wrong(
            "this is the answer for edges(cat); measure the photograph itself: equivariance_error(pool, cat, ...)"
        )
    if answer > right:
        raise Wrong(f"width {answer} is enough, but so is a narrower one; go up from 1 and stop at the first")
    raise Wrong(f"at width {answer} the error is still {100 * error(int(answer), cat):.1f} %")


@exercise("Average over the shifts")
def shift_averaged(f: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> str:
    """``f(net, images)``: mean of the logits over all shifts by 0..3 pixels down and right, on the torus."""
    conv1, conv2 = nn.Conv2d(1, 3, 3, stride=2).double(), nn.Conv2d(3, 4, 3, stride=2).double()

    def net(x: Tensor) -> Tensor:
        x = conv1(F.pad(x, (1, 1, 1, 1), mode="circular")).relu()
        return conv2(F.pad(x, (1, 1, 1, 1), mode="circular")).relu().mean((2, 3))

    x = torch.randn(2, 1, 16, 16, dtype=torch.float64)

    def mean(shifts: list[tuple[int, int]], mode: str = "circular") -> Tensor:
        return torch.stack([net(translate(x, dy, dx, mode=mode)) for dy, dx in shifts]).mean(0)

    square = [(dy, dx) for dy in range(4) for dx in range(4)]
    with torch.no_grad():
        equal(
            f(net, x.clone()),
            mean(square),
            what="2 images and a strided network",
            mistakes={
                "this is the network itself, without any averaging": lambda: net(x),
                "you add the 16 outputs up; divide by 16": lambda: 16 * mean(square),
                "you go along the diagonal only; every pair (dy, dx) is needed": lambda: mean(
                    [(d, d) for d in range(4)]
                ),
                "you shift along one axis only; every pair (dy, dx) is needed": lambda: mean(
                    [(0, d) for d in range(4)]
                ),
                "you shift down only; every pair (dy, dx) is needed": lambda: mean([(d, 0) for d in range(4)]),
                "shifts 0 and 1 are one period of stride 2, but the total stride is 4": lambda: mean(
                    [(dy, dx) for dy in range(2) for dx in range(2)]
                ),
                "shift 0 to 4 is five shifts, and 4 repeats 0: the average is uneven": lambda: mean(
                    [(dy, dx) for dy in range(5) for dx in range(5)]
                ),
                "you shift with zeros, which loses pixels; use the torus: translate(images, dy, dx)": lambda: mean(
                    square, "zeros"
                ),
                "this averages probabilities; average the logits, without softmax": lambda: torch.stack(
                    [net(translate(x, dy, dx)).softmax(1) for dy, dx in square]
                ).mean(0),
                "this averages the 16 images and runs the network once; average the outputs": lambda: net(
                    torch.stack([translate(x, dy, dx) for dy, dx in square]).mean(0)
                ),
            },
        )
    return "right: exactly invariant to every shift of the torus, at 16 times the cost"
