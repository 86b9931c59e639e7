"""Checks of the homework on convolutional networks, exercise 1: what a network has to remember."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from cvbook.checks.answers import called, parts
from cvbook.checks.cnns_homework.budgets import draw, exactly, whole
from cvbook.checks.verdict import exercise

__all__ = ["memory_inference", "memory_training"]


def _chains(seed: int) -> list[list[tuple[int, ...]]]:
    """Shapes of what goes in and of what each layer writes; the largest two are never side by side in the first."""
    g = torch.Generator().manual_seed(seed + 5)
    chains: list[list[tuple[int, ...]]] = [[(3, 8, 8), (2, 4, 4), (5, 7, 6), (4, 2, 2), (6, 5, 9), (10,)]]
    for length in (3, 5, 7, 2):
        shapes = [(draw(g, 1, 9), draw(g, 2, 9), draw(g, 2, 9)) for _ in range(length)]
        chains.append([*shapes, (draw(g, 2, 9),)])
    return chains


def _memory(
    answer: Callable[..., Any], which: int, seed: int, mistakes: Mapping[str, Callable[[list[int]], int]]
) -> None:
    chains, names = _chains(seed), "(training, inference)"
    right = _two if which else sum
    sizes = [[math.prod(shape) for shape in chain] for chain in chains]
    got = [whole(parts(called(answer, shapes=chain), names)[which], names[1:-1].split(", ")[which]) for chain in chains]
    exactly(
        got,
        [right(one) for one in sizes],
        {sentence: (lambda place, f=f: f(sizes[place])) for sentence, f in mistakes.items()},  # type: ignore[misc]
        [f"the shapes {chain}, {names[1:-1].split(', ')[which]}" for chain in chains],
    )


def _two(sizes: Sequence[int]) -> int:
    """The largest sum of neighbors, by brute force over all stretches of length two."""
    return max(sum(sizes[i : i + 2]) for i in range(len(sizes) - 1))


@exercise("Exercise 1, memory in training")
def memory_training(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The first result of ``answer(shapes)``."""
    mistakes = {
        "the image itself is missing: the first layer's gradient needs it": lambda n: sum(n[1:]),
        "the last output is missing: the loss needs it": lambda n: sum(n[:-1]),
        "this is the largest alone; in training all of them wait for the backward pass": max,
        "the two results are exchanged: (training, inference)": _two,
        "this is the product of everything; numbers are kept side by side, so they add up": math.prod,
    }
    _memory(answer, 0, seed, mistakes)  # type: ignore[arg-type]
    return "right: everything waits for the backward pass"


@exercise("Exercise 1, memory at inference")
def memory_inference(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The second result of the same function."""
    mistakes = {
        "this is the largest alone; while a layer works, its input and its output are both there": max,
        "these are the two largest; only neighbors are there at the same time": lambda n: sum(sorted(n)[-2:]),
        "these are the smallest neighbors; there must be room for the largest": lambda n: min(
            a + b for a, b in itertools.pairwise(n)
        ),
        "these are the last two; there must be room for the largest neighbors": lambda n: sum(n[-2:]),
        "these are the first two; there must be room for the largest neighbors": lambda n: sum(n[:2]),
        "this is what training keeps; inference forgets a map as soon as the next one is there": sum,
        "the image itself is missing: it is the input of the first layer": lambda n: (
            _two(n[1:]) if n[2:] else sum(n[1:])
        ),
    }
    _memory(answer, 1, seed, mistakes)  # type: ignore[arg-type]
    return "right: two neighbors at a time"
