"""Checks of the homework on convolutional networks, exercise 7: a comparison at equal multiply-adds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cvbook.checks.answers import called, parts
from cvbook.checks.cnns_homework.budgets import draw, exactly, whole
from cvbook.checks.verdict import Wrong, exercise

__all__ = ["clearly_better", "verdict", "widest_network"]


def _builders(g: torch.Generator) -> list[Callable[[int], nn.Module]]:
    """Networks whose cost grows with the width, quadratically, linearly, or with a jump."""
    classes, kernel = draw(g, 3, 12), draw(g, 3, 5)

    def dense(w: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, w, kernel), nn.ReLU(), nn.Conv2d(w, 2 * w, 3, stride=2), nn.Flatten(1))

    def thin(w: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, w, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(w, classes))

    def grouped(w: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, w, 1), nn.Conv2d(w, w, 3, groups=w), nn.BatchNorm2d(w))

    return [dense, thin, grouped]


def _cost(build: Callable[[int], nn.Module], w: int, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Multiply-adds and parameters, by PyTorch's counter on "meta"."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        net = build(w)
        net.eval()(torch.empty(1, *shape))
    return counter.get_total_flops() // 2, sum(p.numel() for p in net.parameters())


@exercise("Exercise 7, the widest network")
def widest_network(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(build, shape, budget)``: the largest width whose network has at most ``budget`` multiply-adds."""
    g = torch.Generator().manual_seed(seed)
    got, cases = [], []
    builders = _builders(g)
    for build in builders:
        shape = (2, draw(g, 9, 12), draw(g, 9, 14))
        costs = {w: _cost(build, w, shape) for w in range(1, 16)}
        for exact in (True, False, None) if build is builders[0] else (True, False):
            w = draw(g, 2 if exact is None else 1, 6)
            more = 0 if exact else -1 if exact is None else (costs[w + 1][0] - costs[w][0]) // 2
            cases.append((costs, shape, costs[w][0] + more, build))
            got.append(whole(called(answer, build=_up_to(15, build), shape=shape, budget=cases[-1][2]), "the width"))

    def largest(place: int, fits: Callable[[int, int, int], bool]) -> int:
        costs, _, budget, _ = cases[place]
        return max((w for w, (macs, params) in costs.items() if fits(macs, params, budget)), default=0)

    right = [largest(i, lambda macs, params, budget: macs <= budget) for i in range(len(cases))]
    mistakes: dict[str, Callable[[int], object]] = {
        "a network that uses up the budget exactly is within it: compare with <=": (
            lambda i: largest(i, lambda macs, params, budget: macs < budget)
        ),
        "a multiply-add is counted as two operations": (
            lambda i: largest(i, lambda macs, params, budget: 2 * macs <= budget)
        ),
        "parameters and multiply-adds are added up; the budget is for multiply-adds": (
            lambda i: largest(i, lambda macs, params, budget: macs + params <= budget)
        ),
        "this is the first width that is too wide; return the one before it": lambda i: right[i] + 1,
        "one channel more still fits": lambda i: right[i] - 1,
        "only even widths are tried": lambda i: right[i] // 2 * 2,
        "only powers of two are tried": lambda i: 2 ** (right[i].bit_length() - 1),
    }
    exactly(got, right, mistakes, [f"network {n.__name__!r}, images {s}, {b:,} multiply-adds" for _, s, b, n in cases])
    return f"right, for {len(cases)} budgets"


def _up_to(most: int, build: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    """The same function, but it refuses widths at which a search should have ended."""

    def call(width: int) -> nn.Module:
        if width > most:
            raise Wrong(
                f"build was asked for the width {width}, far beyond the budget; count multiply-adds, not parameters, "
                "and stop at the first width that costs too much"
            )
        return build(width)

    return call


@exercise("Exercise 7, what may be said")
def clearly_better(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(results)``: the pairs (better, worse) whose worst and best runs do not overlap."""
    g = torch.Generator().manual_seed(seed)
    tables: list[dict[str, list[float]]] = [
        {"a": [80.0, 82.0], "b": [70.0, 75.0], "c": [74.0, 81.0]},
        {"a": [80.0, 82.0, 81.0], "b": [80.0, 79.0, 78.5]},  # they touch
        {"a": [75.0], "b": [74.0], "c": [75.0]},
    ]
    for _ in range(3):
        names, center = "pqrst"[: draw(g, 3, 5)], torch.randn(5, generator=g)
        tables.append(
            {n: (80 + 2 * c + torch.randn(3, generator=g)).tolist() for n, c in zip(names, center, strict=False)}
        )
    got = [_pairs(called(answer, results=table), table) for table in tables]
    right = [_compared(table, lambda a, b: all(x > y for x in a for y in b)) for table in tables]
    if got == right:
        return "right: what overlaps is left open"

    def mean(a: list[float]) -> float:
        return sum(a) / len(a)

    rules: dict[str, Callable[[list[float], list[float]], bool]] = {
        "this compares the means; if single runs overlap, another seed may turn the order around": (
            lambda a, b: mean(a) > mean(b)
        ),
        "this compares the best runs; a good seed is no better network": lambda a, b: max(a) > max(b),
        "this compares the worst runs only": lambda a, b: min(a) > min(b),
        "this compares the first runs only": lambda a, b: a[0] > b[0],
        "runs are compared seed by seed; the text asks for every run against every run": (
            lambda a, b: all(x > y for x, y in zip(a, b, strict=True))
        ),
        "equal is not better: compare with >": lambda a, b: a is not b and min(a) >= max(b),
        "this asks whether the best run beats the worst; the worst of one must beat the best of the other": (
            lambda a, b: max(a) > min(b) and a is not b
        ),
        "the pairs are turned around: (better, worse)": lambda a, b: max(a) < min(b),
    }
    for sentence, rule in rules.items():
        if got == [_compared(table, rule) for table in tables]:
            raise Wrong(sentence)
    if all(g_ <= r for g_, r in zip(got, right, strict=True)):
        raise Wrong(f"some pairs are missing: for {_first(tables, got, right)}")
    raise Wrong(f"for {_first(tables, got, right)}")


# by the notebook's own cell, on one thread in November 2026, three seeds each: test accuracies in percent, and seconds
ACCURACIES = {
    "3x3": (71.9, 70.2, 69.8), "bottleneck": (68.5, 66.4, 66.6), "separable": (75.7, 73.4, 73.5),
    "1x1 only": (56.4, 58.1, 54.9),
}  # fmt: skip
SECONDS = {"3x3": 1.5, "bottleneck": 3.5, "separable": 3.4, "1x1 only": 2.3}


@exercise("Exercise 7, the verdict")
def verdict(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer()``: the most accurate and the quickest of four blocks that cost the same multiply-adds."""
    accurate, quick = (
        str(part).strip().lower().replace("×", "x") for part in parts(called(answer), "(accurate, quick)")
    )
    means = {name: sum(runs) / len(runs) for name, runs in ACCURACIES.items()}
    best, quickest = max(means, key=means.__getitem__), min(SECONDS, key=SECONDS.__getitem__)
    for name in (accurate, quick):
        if "times" in name:
            raise Wrong("the fifth network costs three times the multiply-adds; compare the four that cost the same")
        if name not in means:
            raise Wrong(f"expected names among {', '.join(means)}, got {name!r:.40}")
    if accurate != best:
        raise Wrong(f"{accurate} reaches about {means[accurate]:.0f} %; another block reaches more at the same cost")
    if SECONDS[quick] > 2 * SECONDS[quickest]:
        raise Wrong(f"{quick} takes more than twice as long as another block; read the seconds in your table")
    if quick != quickest:
        return f"right; where the book was made, {quickest} was the quickest, and your machine may differ"
    return "right: equal multiply-adds are not equal seconds; what is written to memory takes time as well"


def _first(tables: Any, got: Any, right: Any) -> str:
    table, mine, theirs = next(t for t in zip(tables, got, right, strict=True) if t[1] != t[2])
    numbers = {name: [round(v, 2) for v in values] for name, values in table.items()}
    return f"{numbers}, expected {sorted(theirs)}, got {sorted(mine)}"


def _compared(table: dict[str, list[float]], rule: Callable[[list[float], list[float]], bool]) -> set[tuple[str, str]]:
    return {(a, b) for a, b in itertools.permutations(table, 2) if rule(table[a], table[b])}


def _pairs(value: Any, table: Iterable[str]) -> set[tuple[str, str]]:
    """The pairs of an answer, in any order, as a set."""
    kinds = (set, frozenset, list, tuple)
    if not isinstance(value, kinds):
        raise Wrong(f"expected a set of pairs of names, got {'text' if isinstance(value, str) else 'a ' + type(value).__name__}")  # fmt: skip  # noqa: E501
    found = set()
    for pair in value:
        if pair is None or pair is ...:
            raise NotImplementedError
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(n, str) for n in pair):
            raise Wrong(f"expected pairs of names, (better, worse), got {str(pair)[:40]!r} among them")
        if not set(pair) <= set(table):
            raise Wrong(f"the pair {tuple(pair)} names a network that is not in the results")
        found.add((pair[0], pair[1]))
    return found
