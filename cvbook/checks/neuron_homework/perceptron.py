"""Checks of the homework on neurons, exercise 3: a perceptron with several classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from cvbook.checks.answers import Mistakes, called, explained, number, parts, tensor
from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["one_pass_count", "one_pass_weights", "separates"]

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
PATIENCE = 2000  # passes; every data set of the check is decided long before


def corrected(
    W: Tensor, b: Tensor, x: Tensor, y: Tensor, *, mistake: str = ""
) -> tuple[Tensor, Tensor, int]:  # fmt: skip
    """One pass in the padded form: a bias is the weight of a constant 1; ``mistake`` names what is done wrong.

    Returns:
        New weights (K, D), biases (K,) and the number of corrections.
    """
    V, inputs = torch.cat([W, b[:, None]], 1), torch.cat([x, x.new_ones(len(x), 1)], 1)
    start, count = V.clone(), 0
    for one, label in zip(inputs, y.tolist(), strict=True):
        z = (start if mistake == "batch" else V) @ one
        best = (z == z.max()).nonzero()[:, 0]
        found = int(best[-1 if mistake == "last" else 0])
        move = torch.zeros_like(V)
        if mistake != "only down":
            move[label] += one
        if mistake == "all down":
            move[torch.arange(len(V)) != label] -= one
        elif mistake != "only up":
            move[found] -= one
        if mistake == "always" and found == label:
            move[label] += one
        if mistake == "bias":
            move[:, -1] = 0
        if found != label or mistake == "always":
            V = V - move if mistake == "sign" else V + move
        count += found != label
    return V[:, :-1], V[:, -1], count


def _cases(seed: int) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Weights, biases, examples and labels; whole numbers, so that all sums are exact and ties do occur."""
    g = torch.Generator().manual_seed(seed)
    zero = torch.zeros(2, 2).double(), torch.zeros(2).double()
    cases = [(*zero, CORNERS, torch.tensor([0, 0, 0, 1]))]
    for K, D, N in ((3, 2, 12), (4, 3, 15), (5, 4, 9), (3, 3, 1)):
        W, b = torch.randint(-3, 4, (K, D), generator=g), torch.randint(-3, 4, (K,), generator=g)
        x, y = torch.randint(-4, 5, (N, D), generator=g), torch.randint(K, (N,), generator=g)
        cases.append((W.double(), b.double(), x.double() / (2 if K == 3 else 1), y))
    return cases


def _answers(answer: Callable[..., Any], seed: int) -> list[tuple[Tensor, float, str]]:
    """For each case the weights with the biases as a last column, the count, and the case in words."""
    found = []
    for W, b, x, y in _cases(seed):
        got = parts(called(answer, W=W, b=b, x=x, y=y), "(W, b, mistakes)")
        what = f"{len(x)} example(s) of {x.shape[1]} numbers and {len(W)} classes"
        new_W, new_b = tensor(got[0], f"W, {what}"), tensor(got[1], f"b, {what}")
        for name, new, old in (("W", new_W, W), ("b", new_b, b)):
            if new.shape != old.shape:
                raise Wrong(f"expected the new {name} in the shape {tuple(old.shape)}, got {tuple(new.shape)}")
        found.append((torch.cat([new_W, new_b[:, None]], 1), number(got[2], "the number of mistakes"), what))
    return found


@exercise("Exercise 3, weights after a pass")
def one_pass_weights(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(W, b, x, y)``: the new weights and biases, on AND and on random examples."""
    got, cases = _answers(answer, seed), _cases(seed)

    def padded(mistake: str = "") -> list[Tensor]:
        results = [corrected(*case, mistake=mistake) for case in cases]
        return [torch.cat([W, b[:, None]], 1) for W, b, _ in results]

    together = torch.cat([weights.flatten() for weights, _, _ in got])
    mistakes: Mistakes = {
        sentence: lambda kind=kind: torch.cat([V.flatten() for V in padded(kind)])  # type: ignore[misc]
        for kind, sentence in WEIGHT_MISTAKES.items()
    }
    right = padded()
    still = torch.cat([torch.cat([W, b[:, None]], 1).flatten() for W, b, _, _ in cases])
    mistakes["nothing is corrected: W and b come back as they were"] = lambda: still
    zeros = [corrected(torch.zeros_like(W), torch.zeros_like(b), x, y) for W, b, x, y in cases]
    mistakes["the pass starts from zeros; start from the W and b that are given"] = lambda: torch.cat(
        [torch.cat([W, b[:, None]], 1).flatten() for W, b, _ in zeros]
    )
    for sentence, compute in mistakes.items():
        if not torch.equal(together, torch.cat([V.flatten() for V in right])):
            value = compute()
            if isinstance(value, Tensor) and torch.equal(together, value):
                raise Wrong(sentence)
    for (weights, _, what), expected in zip(got, right, strict=True):
        equal(weights, expected, what=f"{what} (W, and b as its last column)")
    return "right, one example at a time"


WEIGHT_MISTAKES = {
    "always": "the weights of the right class change even if the answer was right; correct mistakes only",
    "sign": "the signs are flipped: add the example to the right class, subtract it from the one answered",
    "bias": "the biases never change; a bias is the weight of a constant 1, so correct it too",
    "batch": "all answers are given with the weights at the start; correct after each example",
    "only up": "the class that was wrongly answered keeps its weights; subtract the example from them",
    "only down": "the right class keeps its weights; add the example to them",
    "all down": "the example is subtracted from all other classes; only the one that was answered is corrected",
    "last": "where scores are equal the last class wins; let the first one win, as argmax does",
}


@exercise("Exercise 3, mistakes in a pass")
def one_pass_count(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The third result: how many examples were answered wrongly when they were shown."""
    got, cases = [count for _, count, _ in _answers(answer, seed)], _cases(seed)
    right = [corrected(*case)[2] for case in cases]
    if got == right:
        return "right: counted when the example is shown"
    ends = [corrected(*case)[:2] for case in cases]
    known: dict[str, list[float]] = {
        "this counts the examples answered rightly": [len(c[2]) - r for c, r in zip(cases, right, strict=True)],
        "this is the share of mistakes; return how many there were": [
            r / len(c[2]) for c, r in zip(cases, right, strict=True)
        ],
        "this counts with the weights at the end of the pass; count each example when it is shown": [
            _wrong(*end, *case[2:]) for end, case in zip(ends, cases, strict=True)
        ],
        "this counts with the weights at the start of the pass; count each example when it is shown": [
            _wrong(*case) for case in cases
        ],
        "this is the number of examples, right or wrong": [len(case[2]) for case in cases],
        "this counts two for each mistake": [2 * r for r in right],
    }
    known |= {
        sentence: [corrected(*case, mistake=kind)[2] for case in cases] for kind, sentence in WEIGHT_MISTAKES.items()
    }
    for sentence, counts in known.items():
        if got == counts:
            raise Wrong(sentence)
    case, g, r = next((c, g, r) for c, g, r in zip(cases, got, right, strict=True) if g != r)
    raise Wrong(f"for {len(case[2])} examples and {len(case[0])} classes, expected {r} mistakes, got {g:g}")


def _wrong(W: Tensor, b: Tensor, x: Tensor, y: Tensor) -> int:
    return int(((x @ W.T + b).argmax(1) != y).sum())


@exercise("Exercise 3, does it end?")
def separates(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(one_pass, W, b)``: True if passes end without mistakes, False if the weights come back."""
    got, right, early = [], [], []
    for name, x, y, classes in _questions(seed):
        counter = _Passes(name, x, y, classes)
        W, b = torch.zeros(classes, x.shape[1]).double(), torch.zeros(classes).double()
        value = called(explained(answer, COMPARED), one_pass=counter, W=W, b=b)
        if isinstance(value, Tensor) and value.numel() == 1 and value.dtype == torch.bool:
            value = bool(value)
        if not isinstance(value, (bool, np.bool_)):
            raise Wrong(f"expected True or False, got a {type(value).__name__}")
        got.append(bool(value))
        right.append(_separable(x, y, classes))
        early.append((name, counter))
    for (name, counter), value in zip(early, got, strict=True):
        # even the searches for a cycle that remember one state only need three times as many passes
        if not value and got == right and not counter.calls <= 4 * counter.came_back + 10:
            raise Wrong(
                f"for {name} False is right, but a guess after {counter.calls} passes; compare the weights with those "
                f"after every earlier pass: pass {counter.came_back} brought some back"
            )
    if got == right:
        return f"right, on {len(right)} sets of examples"
    if not any(got):
        if not any(counter.clean for _, counter in early):
            raise Wrong("everything is False, but some sets are learned; call one_pass until it makes no mistake")
        raise Wrong(
            "everything is False: a pass without mistakes leaves the weights as they were, so they 'come back' too; "
            "look at the number of mistakes first"
        )
    (name, counter), value = next((e, g) for e, g, r in zip(early, got, right, strict=True) if g != r)
    if value:
        raise Wrong(f"for {name} the answer is True, but no pass was free of mistakes")
    if counter.returned_without_bias and not counter.returned:
        raise Wrong(f"for {name} W came back, but b did not: compare both")
    raise Wrong(
        f"for {name} you give up after {counter.calls} passes, before the weights have come back; a pass without "
        "mistakes would have come"
    )


COMPARED = dict.fromkeys(
    ("Boolean value of Tensor", "truth value of an array"),
    "== and in ask for the truth of a whole tensor; compare two with torch.equal",
)


class _Passes:
    """A pass over fixed examples that counts its calls.

    It notes whether one was free of mistakes, and whether W, or W and b, came back.
    """

    def __init__(self, name: str, x: Tensor, y: Tensor, classes: int) -> None:
        self.name, self.x, self.y, self.calls = name, x, y, 0
        self.shape = torch.Size([classes, x.shape[1]])
        self.seen: set[tuple[float, ...]] = set()
        self.seen_W: set[tuple[float, ...]] = set()
        self.returned = self.returned_without_bias = self.clean = False
        self.came_back = 0  # the first pass that brought weights back

    def __call__(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor, int]:
        self.calls += 1
        if self.calls > PATIENCE:
            raise Wrong(
                f"for {self.name} this never ends: {PATIENCE} passes were made, and the weights had come back long "
                "before; compare them with those after every earlier pass"
            )
        if [getattr(part, "shape", None) for part in (W, b)] != [self.shape, self.shape[:1]]:
            raise Wrong(f"one_pass takes W {tuple(self.shape)} and b ({self.shape[0]},), as it returned them")
        W, b = tensor(W, "W"), tensor(b, "b")
        if self.calls == 1:
            self.seen.add((*W.flatten().tolist(), *b.tolist()))
        W, b, count = corrected(W, b, self.x, self.y)
        key = (*W.flatten().tolist(), *b.tolist())
        self.returned_without_bias = False
        self.clean |= count == 0
        if count:
            self.returned |= key in self.seen
            self.came_back = self.came_back or self.calls * self.returned
            self.returned_without_bias = key[: W.numel()] in self.seen_W
        self.seen.add(key)
        self.seen_W.add(key[: W.numel()])
        return W.clone(), b.clone(), count


def _questions(seed: int) -> list[tuple[str, Tensor, Tensor, int]]:
    """AND and XOR, XOR with a third class, two sets learned late, one that repeats late, and random ones."""
    g = torch.Generator().manual_seed(seed)
    tables = {"AND": [0, 0, 0, 1], "XOR": [0, 1, 1, 0], "three classes on a square": [0, 1, 2, 0]}
    questions = [(name, CORNERS, torch.tensor(table), max(table) + 1) for name, table in tables.items()]
    close = torch.tensor([[float(9 + seed % 5), 7.0], [float(8 + seed % 5), 7.0], [1.0, 8.0]]).double()
    questions.append(("three points close together", close, torch.tensor([0, 1, 1]), 2))
    near = torch.tensor(
        [[float(36 + 2 * (seed % 4)), 1.0], [float(37 + 2 * (seed % 4)), 1.0]]
    ).double()  # over 600 passes
    questions.append(("two points side by side", near, torch.tensor([0, 1]), 2))
    five = torch.tensor([[0.0, 3.0], [2.0, 1.0], [2.0, 3.0], [0.0, 2.0], [0.0, 2.0]]).double()  # a cycle of six passes
    questions.append(("five points that repeat late", five, torch.tensor([0, 0, 1, 1, 1]), 3))
    while len(questions) < 14:
        x, y = torch.randint(0, 4, (5, 2), generator=g).double(), torch.randint(3, (5,), generator=g)
        questions.append((f"random points {len(questions) - 5}", x, y, 3))
    return questions


def _separable(x: Tensor, y: Tensor, classes: int) -> bool:
    """By linear programming: are there weights with which every right class leads by at least 1?"""
    padded = np.c_[x.numpy(), np.ones(len(x))]
    rows = []
    for one, label in zip(padded, y.tolist(), strict=True):
        for other in set(range(classes)) - {label}:
            row = np.zeros((classes, len(one)))
            row[label], row[other] = -one, one
            rows.append(row.ravel())
    A = np.array(rows)
    return bool(linprog(np.zeros(A.shape[1]), A, -np.ones(len(A)), bounds=(None, None)).status == 0)
