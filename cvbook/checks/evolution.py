"""Checks of the lesson *The evolution on one dataset*."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["alternating_flip", "pareto", "standard_error", "top_k"]


@exercise("Top-k without luck")
def top_k(answer: Callable[[Tensor, Tensor, int], float]) -> str:
    """``answer(logits, labels, k)``: the share of hits, in [0, 1]; a class as high as the label's stands before it."""
    smooth = torch.randn(97, 8)
    coarse = torch.randint(0, 5, (97, 8)).float()  # many ties
    labels = torch.randint(8, (97,))
    cases = [(smooth, 3, "logits without ties"), (smooth, 1, "logits without ties"), (coarse, 3, "logits with ties")]
    cases += [(torch.zeros(97, 8), 5, "logits that are all equal")]
    for logits, k, kind in cases:
        right, mistakes = _hits(logits, labels, k)
        given, truth = logits.clone(), labels.clone()
        got = answer(given, truth, k)
        equal(got, torch.tensor(right), mistakes=mistakes, what=f"{kind} and k = {k}")
        if not torch.equal(given, logits) or not torch.equal(truth, labels):
            raise Wrong("your function changes the logits or the labels that it is given; work on copies")
    return "right: and a network that has nothing to say gets no points"


def _hits(logits: Tensor, labels: Tensor, k: int) -> tuple[float, dict[str, Callable[[], object]]]:
    """The right share, and what mistakes give."""
    own = logits.gather(1, labels[:, None])
    before = (logits > own).sum(1)
    level = (logits >= own).sum(1) - 1  # but the label itself
    right = (level < k).double().mean().item()
    lowest = (logits.topk(k, largest=False).indices == labels[:, None]).any(1).double().mean()
    some = (logits.topk(k).indices == labels[:, None]).any(1).double().mean()
    sorted_down = (logits.argsort(1, descending=True)[:, :k] == labels[:, None]).any(1).double().mean()
    sorted_up = (logits.argsort(1)[:, -k:] == labels[:, None]).any(1).double().mean()
    exact = (level == k - 1).double().mean()
    values = {
        "k is ignored: this is top-1": (level < 1).double().mean(),
        "ties count for the network; a class as high as the label's stands before it": (before < k).double().mean(),
        "topk and sort put classes that tie in an order of their own; count how many are as high instead": some,
        "argsort puts classes that tie in an order of its own; count how many are as high instead": sorted_down,
        "argsort puts classes that tie in their order; count how many are as high instead": sorted_up,
        "the answer is in percent; return the share, in [0, 1]": torch.tensor(100 * right),
        "one place too many: fewer than k others may be as high": (level <= k).double().mean(),
        "the hits are divided by k too; each image has one label, so at most one hit": torch.tensor(right / k),
        "this is the error, 1 minus the share of hits": torch.tensor(1 - right),
        "this counts the hits; divide by the number of images": torch.tensor(right * len(labels)),
        "only the k-th place counts; the places before it are hits too": exact,
        "the label itself is counted among the classes that are as high": (level + 1 < k).double().mean(),
    }
    if torch.equal(before, level):  # without ties, so that it cannot be meant as the largest
        values["the smallest logits are taken; the best guess has the largest"] = lowest
    return right, {sentence: _constant(value) for sentence, value in values.items()}


@exercise("How sure is 5.1 %?")
def standard_error(answer: Callable[[float, int], float]) -> str:
    """``answer(p, n)``: the standard deviation of the share of errors among n images, each wrong with probability p."""
    for p, n in ((0.3, 40), (0.05, 1500), (0.8, 200)):
        mistakes = {
            "this is the variance of the share; the standard error is its square root": p * (1 - p) / n,
            "this is the deviation of the *number* of errors; that of the share is n times smaller": math.sqrt(
                n * p * (1 - p)
            ),
            "1 - p is missing": math.sqrt(p / n),
            "this is the deviation of one image; the mean of n has root n times less": math.sqrt(p * (1 - p)),
            "the root covers n too: divide by the root of n, or by n inside the root": math.sqrt(p * (1 - p)) / n,
            "n belongs under the root": p * (1 - p) / math.sqrt(n),
            "the answer is in percent; return the share itself": 100 * math.sqrt(p * (1 - p) / n),
        }
        wrong = {sentence: _constant(torch.tensor(value)) for sentence, value in mistakes.items()}
        expected = torch.tensor(math.sqrt(p * (1 - p) / n), dtype=torch.float64)
        equal(answer(p, n), expected, mistakes=wrong, what=f"p = {p} and n = {n}")
    return "right: four times as many images halve it"


@exercise("Who is beaten by nobody?")
def pareto(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """``answer(cost, accuracy)``, both ``(n,)``: True for each network that no other beats; see the lesson's rule."""
    cases = [(torch.randint(1, 6, (9,)).tolist(), (torch.randint(50, 56, (9,)) / 100).tolist()) for _ in range(6)]
    cases += [
        ([3.0, 1.0, 2.0, 4.0], [0.9, 0.5, 0.7, 0.8]),
        ([1.0, 1.0, 2.0, 3.0], [0.6, 0.5, 0.6, 0.7]),  # ties in one of both
        ([2.0, 2.0, 5.0], [0.8, 0.8, 0.9]),  # twins
    ]
    for costs, accuracies in cases:
        cost, accuracy = torch.tensor(costs, dtype=torch.float), torch.tensor(accuracies)
        got = answer(cost.clone(), accuracy.clone())
        a, b = accuracy[:, None], accuracy
        p, q = cost[:, None], cost
        beaten = (b >= a) & (q <= p) & ((b > a) | (q < p))
        other = ~torch.eye(len(a), dtype=torch.bool)
        mistakes = {
            "two networks alike in both beat each other here; one of both must be really better": (
                (b >= a) & (q <= p) & other
            ),
            "everybody is beaten: by itself, or by one that is better in one thing and worse in the other": (
                (b >= a) & (q <= p)
            ),
            "a network of equal cost and higher accuracy wins too, and so does a cheaper one that is as accurate": (
                (b > a) & (q < p)
            ),
            "an equally accurate but cheaper network wins too": (b > a) & (q <= p),
            "an equally expensive but more accurate network wins too": (b >= a) & (q < p),
            "cost is better when it is lower": (b >= a) & (q >= p) & ((b > a) | (q > p)),
            "accuracy is better when it is higher": (b <= a) & (q <= p) & ((b < a) | (q < p)),
        }
        wrong = {sentence: _constant(~matrix.any(1)) for sentence, matrix in mistakes.items()}
        wrong["the mask is upside down: True belongs to those whom nobody beats"] = _constant(beaten.any(1))
        wrong["these are the networks that beat nobody: look along the other axis"] = _constant(~beaten.any(0))
        first = ~((b == a) & (q == p) & (torch.arange(len(b)) < torch.arange(len(b))[:, None])).any(1)
        wrong["of two networks alike in both, you keep one; they do not beat each other"] = _constant(
            ~beaten.any(1) & first
        )
        equal(got, (~beaten.any(1)).float(), mistakes=wrong, what=f"costs {costs} and accuracies {_short(accuracies)}")
    return "right: these form the Pareto front, the others need not be considered"


@exercise("Alternating flip")
def alternating_flip(answer: Callable[[Tensor, Tensor, int], Tensor]) -> str:
    """``answer(images, coins, epoch)``: image i is mirrored in even epochs if ``coins[i]``, else in odd ones."""
    images = torch.rand(6, 2, 4, 5)
    coins = torch.tensor([True, False, False, True, True, False])
    for epoch in (0, 1, 2, 5):
        given, tossed = images.clone(), coins.clone()
        got = answer(given, tossed, epoch)
        now = coins if epoch % 2 == 0 else ~coins
        same, odd = coins, torch.full_like(coins, epoch % 2 == 1)
        mistakes = {
            "the coins decide alone; every second epoch shows each image the other way round": _mirrored(images, same),
            "the coins are not used: all images are mirrored together": _mirrored(images, odd),
            "even and odd epochs are exchanged": _mirrored(images, ~now),
            "the images are turned upside down; left and right are the last axis": _mirrored(images, now, -2),
            "channels are reversed; left and right are the last axis": _mirrored(images, now, 1),
            "the order of the images is reversed; left and right are the last axis": images.flip(0),
            "the images are turned by half a circle; mirror the last axis alone": _mirrored(images, now, (-2, -1)),
            "in odd epochs nothing is mirrored; there it is the turn of the images whose coin is False": (
                _mirrored(images, coins & (epoch % 2 == 0))
            ),
        }
        if epoch > 1 and epoch % 2 == 0:  # epoch 0 was right, so they are not exchanged
            mistakes = {"after the first two epochs it goes on alternating": _mirrored(images, ~coins), **mistakes}
        wrong = {sentence: _constant(value) for sentence, value in mistakes.items()}
        equal(got, _mirrored(images, now), mistakes=wrong, what=f"epoch {epoch}")
        if not torch.equal(given, images) or not torch.equal(tossed, coins):
            raise Wrong("your function changes the images or the coins that it is given; the next epoch needs them")
    return "right: two epochs show every image both ways"


def _mirrored(images: Tensor, which: Tensor, axes: int | tuple[int, ...] = -1) -> Tensor:
    return torch.where(which[:, None, None, None], images.flip(axes), images)


def _short(values: list[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in (round(v, 4) for v in values)) + "]"


def _constant(value: Tensor) -> Callable[[], object]:
    """A known mistake's result, in the form that `equal` takes."""
    return lambda: value
