"""Checks of the homework on convolution, exercises 2, 5 and 9: output sizes and receptive fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from cvbook.checks.answers import called, explained
from cvbook.checks.verdict import Wrong, exercise, rounded

__all__ = [
    "by_cases", "central_share", "effective_std", "effective_std_kernels", "output_size", "output_size_dilated",
    "receptive_field", "receptive_field_branches", "receptive_field_dilated",
]  # fmt: skip


SIZE_RANGES = ((5, 40), (1, 6), (1, 5), (0, 4))  # size, kernel, stride, padding: from, to (excluded)


def _stack(n: int, k: int = 3) -> str:
    return f"{n} layer{'s' if n > 1 else ''} {k}x{k}"


def by_cases(
    answer: Callable[..., Any],
    reference: Callable[..., Any],
    cases: Sequence[tuple[Any, ...]],
    mistakes: dict[str, Callable[..., Any]],
    describe: Callable[..., str],
) -> None:
    """Compare a function that returns numbers with a reference on many cases; name the mistake that explains all.

    Args:
        answer: the reader's function.
        reference: the right one.
        cases: positional arguments, one tuple for each call.
        mistakes: sentence -> function that makes this mistake.
        describe: the arguments of a case in words.

    Raises:
        Wrong: with the sentence of the mistake that gives the answer's results in every case, else with the first
            case that differs.
    """
    expected = [_numbers(reference(*case)) for case in cases]
    got = [_numbers(called(answer, **{f"argument {i}": value for i, value in enumerate(case, 1)})) for case in cases]
    first = next((i for i, (a, b) in enumerate(zip(got, expected, strict=True)) if not _close(a, b)), None)
    if first is None:
        return
    for sentence, mistake in mistakes.items():
        if all(_close(a, _numbers(mistake(*case))) for a, case in zip(got, cases, strict=True)):
            raise Wrong(sentence)
    if all(_close(a, b) or _rounded(a, b) for a, b in zip(got, expected, strict=True)):
        raise Wrong("the numbers are rounded; return them as they are")
    raise Wrong(f"for {describe(*cases[first])}, expected {_say(expected[first])}, got {_say(got[first])}")


def _numbers(value: Any) -> tuple[float, ...]:
    if value is None or value is ...:
        raise NotImplementedError
    try:
        return tuple(float(v) for v in value) if isinstance(value, (tuple, list)) else (float(value),)
    except (TypeError, ValueError):
        raise Wrong(f"expected a number or a pair of numbers, got {type(value).__name__}") from None


def _close(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return len(a) == len(b) and all(math.isclose(p, q, rel_tol=1e-5, abs_tol=1e-9) for p, q in zip(a, b, strict=True))


def _rounded(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return len(a) == len(b) and rounded(torch.tensor(a).double(), torch.tensor(b).double()) is not None


def _say(values: tuple[float, ...]) -> str:
    return f"{values[0]:.5g}" if len(values) == 1 else f"({', '.join(f'{v:.5g}' for v in values)})"


def _places(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """The output size by counting the places where the kernel may start."""
    return len(range(0, size + 2 * padding - dilation * (kernel - 1), stride))


def _sizes(answer: Callable[..., int], dilations: Sequence[int], seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    cases: list[tuple[int, ...]] = []
    while len(cases) < 60:
        size, kernel, stride, padding = (int(torch.randint(a, b, (), generator=g)) for a, b in SIZE_RANGES)
        dilation = dilations[int(torch.randint(len(dilations), (), generator=g))]
        if _places(size, kernel, stride, padding, dilation) > 0:
            cases.append((size, kernel, stride, padding, dilation))
    mistakes: dict[str, Callable[..., Any]] = {
        "the floor is missing: a size is a whole number; pixels that do not fill a step are left over": (
            lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) / s + 1
        ),
        "this rounds up: a kernel that does not fit any more gives no output; use //": (
            lambda n, k, s, p, d: math.ceil((n + 2 * p - d * (k - 1) - 1) / s) + 1
        ),
        "this rounds to the nearest number; round down with //": (
            lambda n, k, s, p, d: round((n + 2 * p - d * (k - 1) - 1) / s) + 1
        ),
        "padding is counted once; it is added on both sides": lambda n, k, s, p, d: (n + p - d * (k - 1) - 1) // s + 1,
        "the + 1 is missing: the first place counts before any step": (
            lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) // s
        ),
        "this counts the kernel's pixels one too short: it spans d(k - 1) + 1 of them": (
            lambda n, k, s, p, d: (n + 2 * p - d * (k - 1)) // s + 1
        ),
        "the stride is ignored: divide the way by it, rounding down": lambda n, k, s, p, d: n + 2 * p - d * (k - 1),
        "the padding is ignored: it makes the axis longer on both sides": (
            lambda n, k, s, p, d: (n - d * (k - 1) - 1) // s + 1
        ),
        "the dilation is ignored: a dilated kernel spans d(k - 1) + 1 pixels": (
            lambda n, k, s, p, d: (n + 2 * p - k) // s + 1
        ),
        "a dilated kernel spans d(k - 1) + 1 pixels, not d times k": lambda n, k, s, p, d: (n + 2 * p - d * k) // s + 1,
    }
    by_cases(
        answer, _places, cases, mistakes,
        lambda n, k, s, p, d: f"size {n}, kernel {k}, stride {s}, padding {p} and dilation {d}",
    )  # fmt: skip


@exercise("Exercise 2, stride and padding")
def output_size(answer: Callable[..., int], *, seed: int = 0) -> str:
    """``answer(size, kernel, stride, padding, dilation)`` at dilation 1."""
    _sizes(answer, [1], seed)
    return "right, in 60 random settings"


@exercise("Exercise 2, dilation")
def output_size_dilated(answer: Callable[..., int], *, seed: int = 0) -> str:
    """The same function with dilations 1 to 4."""
    _sizes(answer, [1, 2, 3, 4], seed)
    return "right, in 60 random settings"


def _field(layers: Sequence[Any], mistake: str = "") -> tuple[int, int]:
    """Receptive field and jump of a stack; ``mistake`` names a way to get it wrong."""
    size, jump = 1, 1
    for layer in layers:
        if isinstance(layer, list):
            fields = [_field(branch, mistake) for branch in layer]
            sizes = [f[0] for f in fields]
            chosen = {"sum": sum(s - 1 for s in sizes) + 1, "first": sizes[0], "min": min(sizes)}
            chosen |= {"whole": max(sizes) + 1, "last": sizes[-1]}
            size += (chosen.get(mistake, max(sizes)) - 1) * (1 if mistake == "fork jump" else jump)
            jump *= 1 if mistake == "fork stride" else fields[0][1]
            continue
        kernel, stride, dilation = layer
        dilation = 1 if mistake == "dilation" else dilation
        span = dilation * kernel if mistake == "span" else dilation * (kernel - 1)
        if mistake == "early":
            jump *= stride
        size += span * (1 if mistake == "jump" else jump)
        if mistake not in ("early", "still"):
            jump *= stride
        if mistake == "replace":
            jump = stride
    return size, jump


def _fields(answer: Callable[..., Any], seed: int, *, dilations: int = 1, branches: bool = False) -> None:
    g = torch.Generator().manual_seed(seed)

    def number(high: int) -> int:
        return int(torch.randint(1, high + 1, (), generator=g))

    def stack(depth: int, stride: int = 3) -> list[Any]:
        return [(number(5), number(stride), number(dilations)) for _ in range(depth)]

    cases: list[tuple[Any, ...]] = [([(3, 2, 1), (3, 1, dilations)],), ([],), *((stack(4),) for _ in range(6))]
    if branches:
        cases = [([(3, 2, 1), [[(1, 1, 1)], [(1, 1, 1), (3, 1, 2)], []], (3, 1, 1)],)]
        for _ in range(6):
            fork = [[(2 * number(3) - 1, 1, number(2)) for _ in range(number(3))] for _ in range(3)]  # odd: centered
            cases.append(([*stack(2), fork, *stack(1)],))
        cases.append(([[[(1, 2, 1)], [(3, 2, 1), (3, 1, 1)]], (3, 1, 1)],))
    sentences = {
        "early": "the jump is updated too early: a layer's own stride acts on the layers after it",
        "jump": "the strides are ignored: a kernel's steps are jump pixels apart in the input",
        "still": "the jump never grows: after each layer it is multiplied by the stride",
        "replace": "the jump is the last stride only; it is the product of all strides so far",
        "dilation": "the dilation is ignored: a kernel spans d(k - 1) + 1 positions",
        "span": "a kernel adds d(k - 1) jumps, not d times k: a 1x1 kernel adds nothing",
        "sum": "the branches are added; they run side by side, so the largest counts",
        "first": "only the first branch is followed; the largest counts",
        "min": "this takes the smallest branch; the largest counts",
        "last": "only the last branch is followed; the largest counts",
        "whole": "a branch that sees r positions adds (r - 1) jumps, not r",
        "fork jump": "a fork's steps are jump pixels apart, too: its (r - 1) counts times the jump before it",
        "fork stride": "the strides inside a fork are lost: its branches' jump multiplies the jump",
    }
    mistakes = {text: lambda layers, name=name: _field(layers, name) for name, text in sentences.items()}
    by_cases(answer, _field, cases, mistakes, lambda layers: f"the stack {layers}")


@exercise("Exercise 5, kernels and strides")
def receptive_field(answer: Callable[..., tuple[int, int]], *, seed: int = 0) -> str:
    """``answer(layers)`` is ``(size, jump)``; here all dilations are 1."""
    _fields(answer, seed)
    return "right, in stacks of up to 4 layers"


@exercise("Exercise 5, dilation")
def receptive_field_dilated(answer: Callable[..., tuple[int, int]], *, seed: int = 0) -> str:
    """The same function with dilations 1 to 3."""
    _fields(answer, seed, dilations=3)
    return "right, with dilations 1 to 3"


@exercise("Exercise 5, branches")
def receptive_field_branches(answer: Callable[..., tuple[int, int]], *, seed: int = 0) -> str:
    """The same function with stacks that fork: a list of branches counts as its largest one."""
    forks = dict.fromkeys(
        ("'list'", "not iterable"), "an entry may be a fork, which is a list of branches, not a triple"
    )
    _fields(explained(answer, forks), seed, dilations=2, branches=True)
    return "right, the largest branch counts"


def _steps(n: int, kernel: int = 3, dilation: int = 1) -> float:
    """The standard deviation of n boxes convolved with each other, by convolving them."""
    box = np.zeros(dilation * (kernel - 1) + 1)
    box[::dilation] = 1 / kernel
    field = np.ones(1)
    for _ in range(n):
        field = np.convolve(field, box)
    place = np.arange(len(field)) - (len(field) - 1) / 2
    return float(np.sqrt((field * place**2).sum()))


def _depths(seed: int) -> list[int]:
    return [1, 2, 5, 10, 20 + seed % 5]


@exercise("Exercise 9, 3x3 layers")
def effective_std(answer: Callable[..., float], *, seed: int = 0) -> str:
    """``answer(n)`` against n boxes of width 3, convolved."""
    mistakes: dict[str, Callable[[int], float]] = {
        "this is the variance; take its square root at the end": lambda n: 2 * n / 3,
        "standard deviations do not add; variances do": lambda n: n * math.sqrt(2 / 3),
        "this takes the variance of a continuous box, k^2/12; three weights at -1, 0, 1 have (1 + 0 + 1)/3": (
            lambda n: math.sqrt(9 * n / 12)
        ),
        "this divides by k - 1 = 2; the weights are 1/3 each, so the variance is (1 + 0 + 1)/3": lambda n: math.sqrt(n),
        "this is the radius of the theoretical field, not a standard deviation": lambda n: n,
        "this is the theoretical receptive field, 2n + 1; its weights are far from uniform": lambda n: 2 * n + 1,
    }
    by_cases(answer, _steps, [(n,) for n in _depths(seed)], mistakes, _stack)
    return "right, the square root of 2n/3"


@exercise("Exercise 9, other kernels")
def effective_std_kernels(answer: Callable[..., float], *, seed: int = 0) -> str:
    """``answer(n, kernel, dilation)`` against n boxes with holes, convolved."""
    cases = [(n, k, d) for n in _depths(seed) for k in (1, 3, 5, 7) for d in (1, 2, 3)]
    mistakes: dict[str, Callable[[int, int, int], float]] = {
        "the kernel size is ignored; the variance of k equal weights is (k^2 - 1)/12": lambda n, k, d: _steps(n, 3, d),
        "the dilation is ignored; it moves the weights d times as far apart": lambda n, k, d: _steps(n, k),
        "kernel and dilation are ignored": lambda n, k, d: _steps(n),
        "the dilation scales distances, so the variance grows with d squared": (
            lambda n, k, d: _steps(n, k) * math.sqrt(d)
        ),
        "the variance is multiplied by d to the fourth; d squared is enough": lambda n, k, d: _steps(n, k) * d**2,
        "a dilated kernel has holes: it is not a full box of d(k - 1) + 1 weights": (
            lambda n, k, d: _steps(n, d * (k - 1) + 1)
        ),
        "this takes the variance of a continuous box, k^2/12; k single weights have (k^2 - 1)/12": (
            lambda n, k, d: d * k * math.sqrt(n / 12)
        ),
    }
    by_cases(answer, _steps, cases, mistakes, lambda n, k, d: f"{_stack(n, k)} with dilation {d}")
    return "right, in 60 settings"


@exercise("Exercise 9, share of the field")
def central_share(answer: Callable[..., float], *, seed: int = 0) -> str:
    """``answer(n)``: four standard deviations over the side 2n + 1 of the theoretical field."""
    mistakes: dict[str, Callable[[int], float]] = {
        "this is two standard deviations wide; two on each side make four": lambda n: 2 * _steps(n) / (2 * n + 1),
        "this is one standard deviation; two on each side make four": lambda n: _steps(n) / (2 * n + 1),
        "the theoretical field of n layers 3x3 is 2n + 1 wide, not 2n": lambda n: 4 * _steps(n) / (2 * n),
        "this is in percent; return the share itself": lambda n: 400 * _steps(n) / (2 * n + 1),
        "the theoretical field of n layers 3x3 is 2n + 1 wide, not 3n": lambda n: 4 * _steps(n) / (3 * n),
        "this is the share of the area; the share of the side is asked for": (
            lambda n: (4 * _steps(n) / (2 * n + 1)) ** 2
        ),
        "this is upside down: the effective width goes on top": lambda n: (2 * n + 1) / (4 * _steps(n)),
        "this is four variances; take the square root": lambda n: 4 * _steps(n) ** 2 / (2 * n + 1),
    }
    by_cases(
        answer, lambda n: 4 * _steps(n) / (2 * n + 1), [(n,) for n in _depths(seed)], mistakes,
        _stack,
    )  # fmt: skip
    return "right, and it shrinks like one over the square root of n"
