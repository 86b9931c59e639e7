"""Checks of the exercises in the lesson *Shapes*."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional as F

from cvbook.checks.settings import Case, compare, numbers
from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["dilate", "leftover", "output_size", "parameters", "same_padding", "unread"]

GRID: list[Case] = [  # n, k, s, p, d: windows that fit
    case
    for case in itertools.product((7, 8, 12), (1, 2, 3), (1, 2, 3), (0, 1, 2), (1, 2, 3))
    if case[4] * (case[1] - 1) < case[0] + 2 * case[3]
]


@exercise("Output size")
def output_size(answer: Callable[..., object]) -> str:
    """``answer(n, k, s, p, d)``: the number of windows along one axis; compared with the shapes torch returns."""
    numbers(
        answer,
        lambda n, k, s, p, d: _windows(n, k, s, p, d).shape[-1],
        GRID,
        "n={}, k={}, s={}, p={}, d={}",
        {
            "the dilation is left out: k taps at distance d span d (k - 1) + 1 pixels": (
                lambda n, k, s, p, d: (n + 2 * p - k) // s + 1
            ),
            "the dilation is left out, and / does not round down": lambda n, k, s, p, d: (n + 2 * p - k) / s + 1,
            "this is one too large before the division: the window spans d (k - 1) + 1 pixels, so subtract 1 more": (
                lambda n, k, s, p, d: (n + 2 * p - d * (k - 1)) // s + 1
            ),
            "padding is counted once, but it is added at both ends": (
                lambda n, k, s, p, d: (n + p - d * (k - 1) - 1) // s + 1
            ),
            "this rounds up: a window that does not fit completely is not used": (
                lambda n, k, s, p, d: math.ceil((n + 2 * p - d * (k - 1) - 1) / s) + 1
            ),
            "this rounds to the nearest number; round down": (
                lambda n, k, s, p, d: round((n + 2 * p - d * (k - 1) - 1) / s) + 1
            ),
            "this does not round; use // instead of /": lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) / s + 1,
            "the first window is missing: it takes no step, so add 1 after dividing": (
                lambda n, k, s, p, d: (n + 2 * p - d * (k - 1) - 1) // s
            ),
            "the window spans d k pixels here, but after the last tap nothing follows: d (k - 1) + 1": (
                lambda n, k, s, p, d: (n + 2 * p - d * k) // s + 1
            ),
        },
    )
    return f"right: it agrees with torch in {len(GRID)} settings"


@exercise("Padding for the same size")
def same_padding(answer: Callable[..., object]) -> str:
    """``answer(k, d)``: pixels ``(before, after)`` that keep the size at stride 1, the odd one after."""
    mistakes: dict[str, Callable[[int, int], Case]] = {
        "the dilation is left out: the total is d (k - 1)": lambda k, d: ((k - 1) // 2, k - 1 - (k - 1) // 2),
        "this is k // 2 at both ends; it ignores the dilation and makes even kernels one pixel too large": (
            lambda k, d: (k // 2, k // 2)
        ),
        "this pads the whole d (k - 1) at each end; split it": lambda k, d: (d * (k - 1), d * (k - 1)),
        "both ends get the same; when d (k - 1) is odd, the size is then one too small": (
            lambda k, d: (d * (k - 1) // 2, d * (k - 1) // 2)
        ),
        "the odd pixel is put before; torch puts it after": (
            lambda k, d: (d * (k - 1) - d * (k - 1) // 2, d * (k - 1) // 2)
        ),
        "d * (k // 2) at both ends suits odd kernels only; for even ones it adds up to d k instead of d (k - 1)": (
            lambda k, d: (d * (k // 2), d * (k // 2))
        ),
        "(k - 1) // 2 * d at both ends suits odd kernels only; multiply first, then halve the total d (k - 1)": (
            lambda k, d: ((k - 1) // 2 * d, (k - 1) // 2 * d)
        ),
        "the total is right, but split d (k - 1), not k - 1: multiply first, then halve": (
            lambda k, d: ((k - 1) // 2 * d, k // 2 * d)
        ),
    }
    cases: list[Case] = list(itertools.product((1, 2, 3, 4, 5), (1, 2, 3)))
    got = []
    for k, d in cases:
        value = answer(k, d)
        if value is None or value is ...:
            raise NotImplementedError
        try:  # a tuple, a list, an array or a tensor
            before, after = (float(x) for x in value)  # type: ignore[attr-defined]
        except (TypeError, ValueError):
            raise Wrong(f"expected a pair (before, after) for k={k}, d={d}, got {value!r}") from None
        got.append(tuple(int(x) if x.is_integer() else x for x in (before, after)))
    compare(got, [_same_by_torch(k, d) for k, d in cases], cases, "k={}, d={}", mistakes)
    return "right, for even kernels too"


@exercise("Leftover pixels")
def leftover(answer: Callable[..., object]) -> str:
    """``answer(n, k, s, p, d)``: pixels of the padded input behind the last window, along one axis."""

    def right(n: int, k: int, s: int, p: int, d: int) -> int:
        starts = range(0, n + 2 * p - d * (k - 1), s)
        return n + 2 * p - 1 - (starts[-1] + d * (k - 1))

    numbers(
        answer,
        right,
        GRID,
        "n={}, k={}, s={}, p={}, d={}",
        {
            "that is the remainder of the input, not of what is left after the first window": lambda n, k, s, p, d: (
                n % s
            ),
            "subtract the span of the first window before you take the remainder": (
                lambda n, k, s, p, d: (n + 2 * p) % s
            ),
            "the padding is left out; it can be what is left over": lambda n, k, s, p, d: (n - d * (k - 1) - 1) % s,
            "padding is counted once, but it is added at both ends": (
                lambda n, k, s, p, d: (n + p - d * (k - 1) - 1) % s
            ),
            "the dilation is left out": lambda n, k, s, p, d: (n + 2 * p - k) % s,
            "the remainder is off by one: a window spans d (k - 1) + 1 pixels": (
                lambda n, k, s, p, d: (n + 2 * p - d * (k - 1)) % s
            ),
            "that is the room behind the first window, before the window moves": (
                lambda n, k, s, p, d: n + 2 * p - d * (k - 1) - 1
            ),
        },
    )
    return "right"


@exercise("Dilation by hand")
def dilate(answer: Callable[..., object]) -> str:
    """``answer(weight, d)``: a larger kernel without dilation that does what ``weight`` does with dilation d."""
    for shape, d in [((2, 3, 3, 3), 2), ((1, 1, 2, 4), 3), ((2, 1, 3, 2), 1)]:
        weight = torch.randn(shape)
        k_h, k_w = shape[2:]
        spread = nn.functional.conv_transpose2d(  # each weight stamped at d times its place: another route
            weight.flatten(0, 1)[:, None], torch.ones(1, 1, 1, 1), stride=d
        )
        expected = spread.reshape(*shape[:2], d * (k_h - 1) + 1, d * (k_w - 1) + 1)
        kept = weight.clone()
        result = answer(weight, d)
        if not torch.equal(weight, kept):
            raise Wrong("the weight that was passed in has changed; write into a new tensor")
        what = f"a kernel of shape {shape} and d={d}"
        equal(result, expected, what=what, mistakes=_dilation_mistakes(weight, d, expected))
    return "right: any dilated convolution is an ordinary one with a kernel full of zeros"


@exercise("Counting parameters")
def parameters(answer: Callable[..., object]) -> str:
    """``answer(c_in, c_out, k, groups)``: weights and biases of the layer, compared with ``nn.Conv2d``."""
    numbers(
        answer,
        lambda c_in, c_out, k, g: sum(w.numel() for w in nn.Conv2d(c_in, c_out, k, groups=g).parameters()),
        [(3, 6, 3, 1), (3, 6, 3, 3), (8, 4, 5, 2), (8, 8, 1, 8), (4, 12, 2, 4)],
        "c_in={}, c_out={}, k={}, groups={}",
        {
            "the biases are missing: one for each output channel": lambda c_in, c_out, k, g: c_out * c_in // g * k * k,
            "groups are left out: an output channel sees only c_in / groups input channels": (
                lambda c_in, c_out, k, g: c_out * c_in * k * k + c_out
            ),
            "you divide by groups twice: each group has c_in/g times c_out/g kernels, but there are g groups": (
                lambda c_in, c_out, k, g: (c_out // g) * (c_in // g) * k * k + c_out
            ),
            "the biases are divided by groups too; every output channel keeps its own": (
                lambda c_in, c_out, k, g: (c_out * c_in * k * k + c_out) // g
            ),
            "there is one bias for each output channel, not for each input channel": (
                lambda c_in, c_out, k, g: c_out * c_in // g * k * k + c_in
            ),
            "there is one bias for each output channel, not for each group": (
                lambda c_in, c_out, k, g: c_out * c_in // g * k * k + g
            ),
            "there is one bias for each output channel, not one for the layer": (
                lambda c_in, c_out, k, g: c_out * c_in // g * k * k + 1
            ),
            "a kernel has k times k taps in each channel, not k": lambda c_in, c_out, k, g: (
                c_out * c_in // g * k + c_out
            ),
        },
    )
    return "right"


@exercise("Pixels that are never read")
def unread(answer: Iterable[Case]) -> str:
    """``answer``: the pairs (stride, dilation) from 1..4 for which a 3-tap kernel leaves gaps between its windows."""
    pairs = list(itertools.product(range(1, 5), repeat=2))
    expected = {(s, d) for s, d in pairs if _has_gaps(3, s, d)}
    try:
        got = {(int(s), int(d)) for s, d in answer}
    except (TypeError, ValueError):
        raise Wrong(f"expected a set of pairs (stride, dilation), got {answer!r}") from None
    if got == expected:
        return "right: none is left out only if stride and dilation share no factor and the stride is at most k"
    if not got:
        raise NotImplementedError
    known = {
        "these are pairs (dilation, stride); swap them": {(d, s) for s, d in expected},
        "a common factor is one reason; with stride 4 three taps cannot reach all four remainders either": {
            (s, d) for s, d in pairs if math.gcd(s, d) > 1
        },
        "a stride beyond the 3 taps is one reason; look also at stride 2 with dilation 2": {
            (s, d) for s, d in pairs if s > 3
        },
        "not every stride > 1 leaves gaps: at stride 2 and dilation 1 neighboring windows overlap": {
            (s, d) for s, d in pairs if s > 1
        },
        "at stride 1 every pixel is read, whatever the dilation": {(s, d) for s, d in pairs if s > 3 or d > 1},
        "these are the pairs that read every pixel; give the others": set(pairs) - expected,
    }
    for sentence, mistaken in known.items():
        if got == mistaken:
            raise Wrong(sentence)
    missing, extra = sorted(expected - got), sorted(got - expected)
    if missing:
        raise Wrong(
            f"stride {missing[0][0]} with dilation {missing[0][1]} leaves pixels unread; measure it on a long input"
        )
    stride, dilation = extra[0]
    raise Wrong(
        f"stride {stride} with dilation {dilation} reads every pixel between the ends; ignore those near the ends"
    )


def _dilation_mistakes(weight: torch.Tensor, d: int, expected: torch.Tensor) -> dict[str, Callable[[], object]]:
    corner = torch.zeros(d, d)
    corner[0, 0] = 1
    return {
        "the weights are repeated; there must be zeros between them": lambda: torch.kron(weight, torch.ones(d, d)),
        "the kernel ends with zeros: after the last tap nothing follows, so its side is d (k - 1) + 1": (
            lambda: torch.kron(weight, corner)
        ),
        "there are d zeros between two taps; it must be d - 1": lambda: _spread(weight, d + 1, d + 1),
        "only the rows are spread; spread the columns too": lambda: _spread(weight, d, 1),
        "only the columns are spread; spread the rows too": lambda: _spread(weight, 1, d),
        "nothing is spread; this is the kernel itself": lambda: weight,
        "this kernel is flipped": lambda: expected.flip(-2, -1),
    }


def _windows(n: int, k: int, s: int, p: int, d: int) -> torch.Tensor:
    return F.conv1d(torch.zeros(1, 1, n), torch.zeros(1, 1, k), stride=s, padding=p, dilation=d)


def _same_by_torch(k: int, d: int) -> Case:
    """Where ``padding="same"`` puts the input: one tap at place u moves an impulse to ``before - d u``."""
    impulse = torch.zeros(1, 1, 41)
    impulse[..., 20] = 1
    last = torch.zeros(1, 1, k)
    last[..., -1] = 1
    with warnings.catch_warnings():  # torch warns that an odd total costs a copy
        warnings.simplefilter("ignore")
        moved = int(F.conv1d(impulse, last, padding="same", dilation=d).argmax())
    after = 20 - moved  # the last tap sits `after` pixels to the right of the output
    return d * (k - 1) - after, after


def _has_gaps(k: int, s: int, d: int) -> bool:
    x = torch.zeros(1, 1, 200, requires_grad=True)
    F.conv1d(x, torch.ones(1, 1, k), stride=s, dilation=d).sum().backward()
    assert x.grad is not None
    return bool((x.grad[..., 20:-20] == 0).any())


def _spread(weight: torch.Tensor, d_h: int, d_w: int) -> torch.Tensor:
    k_h, k_w = weight.shape[-2:]
    wide = weight.new_zeros(*weight.shape[:2], d_h * (k_h - 1) + 1, d_w * (k_w - 1) + 1)
    wide[..., ::d_h, ::d_w] = weight
    return wide
