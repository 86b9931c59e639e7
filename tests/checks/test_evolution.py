"""Each check takes right answers, however written, and names what is wrong with the others."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cvbook.checks import evolution as checks


def counted(logits: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    own = logits.gather(1, labels[:, None])
    return ((logits >= own).sum(1) <= k).float().mean().item()


def looped(logits: torch.Tensor, labels: torch.Tensor, k: int) -> torch.Tensor:
    hits = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        value = row.pop(label)
        hits += sum(other >= value for other in row) < k
    return torch.tensor(hits / len(labels))


@pytest.mark.parametrize("answer", [counted, looped])
def test_top_k_accepts(answer: Any) -> None:
    assert checks.top_k(answer).passed


def by_topk(x: torch.Tensor, y: torch.Tensor, k: int, largest: bool = True) -> torch.Tensor:
    return (x.topk(k, largest=largest).indices == y[:, None]).any(1).float().mean()


def emptied(x: torch.Tensor, y: torch.Tensor, k: int) -> float:
    value = counted(x, y, k)
    x.zero_()
    return value


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x, y, k: counted(x, y, 1), "k is ignored"),
        (lambda x, y, k: by_topk(x, y, k, largest=False), "the smallest logits are taken"),
        (lambda x, y, k: counted(x, y, k) / k, "divided by k"),
        (lambda x, y, k: 1 - counted(x, y, k), "this is the error"),
        (lambda x, y, k: counted(x, y, k) * len(y), "divide by the number of images"),
        (lambda x, y, k: ((x > x.gather(1, y[:, None])).sum(1) < k).float().mean(), "ties count for the network"),
        (by_topk, "topk and sort put classes that tie"),
        (lambda x, y, k: (x.argsort(1, descending=True)[:, :k] == y[:, None]).any(1).float().mean(), "that tie in"),
        (lambda x, y, k: (x.argsort(1)[:, -k:] == y[:, None]).any(1).float().mean(), "that tie in"),
        (lambda x, y, k: 100 * counted(x, y, k), "in percent"),
        (lambda x, y, k: counted(x, y, k + 1), "one place too many"),
        (lambda x, y, k: counted(x, y, k - 1), "the label itself is counted"),
        (lambda x, y, k: 0.0, "everything is zero"),
        (lambda x, y, k: 1.0, "expected"),
        (emptied, "changes the logits"),
    ],
)
def test_top_k_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.top_k(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("answer", [lambda p, n: (p * (1 - p) / n) ** 0.5, lambda p, n: math.sqrt((p - p * p) / n)])
def test_standard_error_accepts(answer: Any) -> None:
    assert checks.standard_error(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda p, n: p * (1 - p) / n, "variance of the share"),
        (lambda p, n: math.sqrt(p * (1 - p) * n), "*number* of errors"),
        (lambda p, n: math.sqrt(p / n), "1 - p is missing"),
        (lambda p, n: math.sqrt(p * (1 - p)), "deviation of one image"),
        (lambda p, n: math.sqrt(p * (1 - p)) / n, "the root covers n too"),
        (lambda p, n: 100 * math.sqrt(p * (1 - p) / n), "in percent"),
        (lambda p, n: 0.0, "everything is zero"),
    ],
)
def test_standard_error_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.standard_error(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def front(cost: torch.Tensor, accuracy: torch.Tensor) -> torch.Tensor:
    return ~beats(cost, accuracy).any(1)


def beats(cost: torch.Tensor, accuracy: torch.Tensor) -> torch.Tensor:
    better = (accuracy >= accuracy[:, None]) & (cost <= cost[:, None])
    return better & ((accuracy > accuracy[:, None]) | (cost < cost[:, None]))


def first_of_twins(cost: torch.Tensor, accuracy: torch.Tensor) -> torch.Tensor:
    best, chosen = -1.0, torch.zeros(len(cost), dtype=torch.bool)
    for i in sorted(range(len(cost)), key=lambda i: (cost[i].item(), -accuracy[i].item())):
        if accuracy[i] > best:
            best, chosen[i] = accuracy[i].item(), True
    return chosen


def loops(cost: torch.Tensor, accuracy: torch.Tensor) -> list[bool]:
    points = list(zip(cost.tolist(), accuracy.tolist(), strict=True))
    return [not any(q <= p and b >= a and (q, b) != (p, a) for q, b in points) for p, a in points]


@pytest.mark.parametrize("answer", [front, loops])
def test_pareto_accepts(answer: Any) -> None:
    assert checks.pareto(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda c, a: ~((a >= a[:, None]) & (c <= c[:, None])).any(1), "everybody is beaten"),
        (lambda c, a: ~((a > a[:, None]) & (c < c[:, None])).any(1), "wins too"),
        (lambda c, a: ~((a > a[:, None]) & (c <= c[:, None])).any(1), "equally accurate but cheaper"),
        (lambda c, a: ~((a >= a[:, None]) & (c < c[:, None])).any(1), "equally expensive but more accurate"),
        (lambda c, a: front(-c, a), "cost is better when it is lower"),
        (lambda c, a: front(c, -a), "accuracy is better when it is higher"),
        (lambda c, a: ~front(c, a), "upside down"),
        (lambda c, a: ~((a > a[:, None]) | (c < c[:, None])).any(1), "everybody is beaten"),
        (lambda c, a: torch.zeros(len(c)), "everybody is beaten"),
        (lambda c, a: torch.ones(len(c)), "expected 0 at index (0,), got 1"),
        (lambda c, a: ~beats(c, a).any(0), "beat nobody"),
        (first_of_twins, "of two networks alike"),
        (lambda c, a: ~((a >= a[:, None]) & (c <= c[:, None])).fill_diagonal_(False).any(1), "beat each other here"),
        (lambda c, a: c == c.min(), "higher"),
    ],
)
def test_pareto_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.pareto(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def xored(images: torch.Tensor, coins: torch.Tensor, epoch: int) -> torch.Tensor:
    which = coins ^ (epoch % 2 == 1)
    return torch.where(which[:, None, None, None], images.flip(-1), images)


def one_by_one(images: torch.Tensor, coins: torch.Tensor, epoch: int) -> torch.Tensor:
    return torch.stack([x.flip(2) if bool(c) == (epoch % 2 == 0) else x for x, c in zip(images, coins, strict=True)])


def odd(coins: torch.Tensor, epoch: int) -> torch.Tensor:
    return (coins ^ (epoch % 2 == 1))[:, None, None, None]


def in_place(images: torch.Tensor, coins: torch.Tensor, epoch: int) -> torch.Tensor:
    images.copy_(xored(images.clone(), coins, epoch))
    return images


@pytest.mark.parametrize("answer", [xored, one_by_one])
def test_alternating_flip_accepts(answer: Any) -> None:
    assert checks.alternating_flip(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x, c, e: xored(x, c, 0), "the coins decide alone"),
        (lambda x, c, e: x.flip(-1) if e % 2 else x, "the coins are not used"),
        (lambda x, c, e: xored(x, ~c, e), "exchanged"),
        (lambda x, c, e: xored(x.transpose(2, 3), c, e).transpose(2, 3), "upside down"),
        (lambda x, c, e: x.flip(0), "order of the images"),
        (lambda x, c, e: xored(x, c, min(e, 1)), "goes on alternating"),
        (lambda x, c, e: torch.zeros_like(x), "everything is zero"),
        (in_place, "changes the images"),
        (lambda x, c, e: xored(x, c.logical_not_() if e % 2 else c, 0), "or the coins"),
        (lambda x, c, e: xored(x, -c, e), "your code stopped with"),
        (lambda x, c, e: xored(x, c & (e % 2 == 0), 0), "in odd epochs nothing"),
        (lambda x, c, e: torch.where(odd(c, e), x.flip((-2, -1)), x), "half a circle"),
    ],
)
def test_alternating_flip_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.alternating_flip(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("check", [checks.top_k, checks.standard_error, checks.pareto, checks.alternating_flip])
def test_the_stub_is_not_attempted(check: Any) -> None:
    assert check(lambda *inputs: ...).state == "not attempted"
    assert check(lambda *inputs: None).state == "not attempted"
