"""Checks of the homework on convolutional networks, exercise 6: fair top-k, and an occlusion map for each pixel."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.answers import called, number, tensor
from cvbook.checks.cnns_homework.budgets import draw
from cvbook.checks.verdict import equal, exercise

__all__ = ["coverage", "expected_top_k"]


@exercise("Exercise 6, top-k with ties")
def expected_top_k(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(scores, labels, k)``: the expected share of hits when equal scores stand in a random order."""
    g = torch.Generator().manual_seed(seed)
    for B, K, k, ties in ((40, 5, 2, 3), (30, 4, 1, 3), (25, 5, 3, 2), (1, 3, 2, 1), (20, 5, 4, 3), (12, 4, 4, 2), (30, 5, 2, 0)):  # fmt: skip  # noqa: E501
        scores = torch.randn(B, K, generator=g)
        if ties:
            scores = torch.randint(0, ties, (B, K), generator=g).float()  # ``ties`` different values only
        labels = torch.randint(K, (B,), generator=g)
        own = scores[torch.arange(B), labels][:, None]
        above, level = (scores > own).sum(1), (scores == own).sum(1)  # the label's class is level with itself
        chance = ((k - above) / level).clamp(0, 1)
        mistakes = {
            "all ties are decided for the label; their order is random": (above < k).double().mean(),
            "all ties are decided against the label; their order is random": (above + level <= k).double().mean(),
            "a tie counts one half, however many are level and however many places are left": torch.where(
                above + level <= k, 1.0, torch.where(above < k, 0.5, 0.0)
            ).mean(),
            "each tie counts 1 / (number of classes that are level); several places may be left for them": torch.where(
                above < k, 1 / level, 0.0
            ).mean(),
            "this is top-1, whatever k is": ((1 - above) / level).clamp(0, 1).mean(),
            "the ranks start at the wrong end: the largest score is the best": _brute(-scores, labels, k),
            "the hits are divided by k; an image is a hit or not": chance.mean() / k,
            "this is the sum over the images; return the mean": chance.sum(),
            "this is one chance for each image; return the mean": chance,
            "this is percent; return a share": 100 * chance.mean(),
            "this is the share of errors; return that of hits": 1 - chance.mean(),
            "the chances are not clamped: they are between 0 and 1": ((k - above) / level).mean(),
            "the chances are not clamped from below: no place left is a chance of 0": (
                ((k - above) / level).clamp(max=1).mean()
            ),
            "topk decides ties by the order of the classes; their order is random": (
                (scores.topk(k, 1).indices == labels[:, None]).any(1).double().mean()
            ),
            "the first class in order wins ties; their order is random": (
                (scores.argsort(dim=1, descending=True, stable=True)[:, :k] == labels[:, None]).any(1).double().mean()
            ),
        }  # fmt: skip
        what = f"{B} image(s), {K} classes and k = {k}"
        got = tensor(called(answer, scores=scores, labels=labels, k=k), what)
        right = _brute(scores, labels, k)
        equal(number(got, what) if got.numel() == 1 else got, torch.tensor(right), mistakes=mistakes, what=what)
    return "right: the mean over all orders"


def _brute(scores: Tensor, labels: Tensor, k: int) -> float:
    """Every order in which equal classes can stand: the mean over all permutations of the classes, sorted stably."""
    orders = list(itertools.permutations(range(scores.shape[1])))
    total = 0.0
    for order in map(torch.tensor, orders):
        ranks = scores[:, order].argsort(dim=1, descending=True, stable=True)
        total += float((order[ranks[:, :k]] == labels[:, None]).any(1).double().mean())
    return total / len(orders)


@exercise("Exercise 6, a map for each pixel")
def coverage(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(drops, patch, stride, height, width)``: for each pixel the mean drop of the patches that cover it."""
    g = torch.Generator().manual_seed(seed)
    for patch, stride, H, W in ((3, 2, 7, 10), (2, 2, 6, 5), (4, 1, 6, 9), (2, 3, 8, 6), (3, 2, 8, 6 + draw(g, 0, 4))):
        shape = (H - patch) // stride + 1, (W - patch) // stride + 1
        drops = torch.randn(shape, generator=g)
        what = f"drops {shape}, patch {patch}, stride {stride}, image {H} x {W}"
        total, count, last = (torch.zeros(H, W) for _ in range(3))
        largest = torch.full((H, W), -torch.inf)
        for (i, j), drop in zip(itertools.product(*map(range, shape)), drops.flatten(), strict=True):
            part = slice(stride * i, stride * i + patch), slice(stride * j, stride * j + patch)
            total[part], last[part] = total[part] + drop, drop
            largest[part] = largest[part].clamp(min=drop)
            count[part] += 1
        right = torch.where(count > 0, total / count.clamp(min=1), 0)
        mistakes = {
            "this is the sum; pixels that more patches cover would look more important": total,
            "pixels that no patch covers are NaN; they are 0": total / count,
            "a patch overwrites the one before; take the mean": last,
            "this is the largest drop that covers a pixel; take the mean": torch.where(count > 0, largest, 0),
            "this divides by patch squared; at the border fewer patches cover a pixel": total / patch**2,
            "this divides by the number of all patches; only those that cover the pixel count": total / drops.numel(),
            "this divides by the largest number of patches; each pixel has its own": total / count.max(),
            "the stride is ignored: patch (i, j) begins at row i * stride": _mean(drops, patch, 1, H, W),
            "patches begin patch pixels apart; patch (i, j) begins at row i * stride": _mean(drops, patch, patch, H, W),
            "each drop fills its stride only; a patch covers patch x patch pixels": _mean(drops, stride, stride, H, W),
            "this is how many patches cover a pixel": count,
            "the drops are stretched over the image; add them up patch by patch": F.interpolate(
                drops[None, None], size=(H, W), mode="bilinear"
            )[0, 0],
            "the drops are stretched over the image without smoothing; a pixel is covered by several patches": (
                F.interpolate(drops[None, None], size=(H, W))[0, 0]
            ),
            "rows and columns are exchanged": right.T,
        }
        got = called(answer, drops=drops, patch=patch, stride=stride, height=H, width=W)
        equal(_numbers(got, what), right, mistakes=_with_nan(mistakes), what=what)
    return "right, also where few patches or none cover a pixel"


def _mean(drops: Tensor, patch: int, stride: int, H: int, W: int) -> Tensor:
    """The mean with another patch or stride, cut off at the border of the image."""
    total, count = torch.zeros(H, W), torch.zeros(H, W)
    for (i, j), drop in zip(itertools.product(*map(range, drops.shape)), drops.flatten(), strict=True):
        part = slice(stride * i, stride * i + patch), slice(stride * j, stride * j + patch)
        total[part] += drop
        count[part] += 1
    return total / count.clamp(min=1)


NAN = 1e30  # stands for NaN, which equals nothing


def _numbers(got: Any, what: str) -> Tensor:
    found = tensor(got, what)
    return found if found.isnan().all() else found.nan_to_num(nan=NAN, posinf=torch.inf, neginf=-torch.inf)


def _with_nan(mistakes: dict[str, Tensor]) -> dict[str, Tensor]:
    return {sentence: value.double().nan_to_num(nan=NAN) for sentence, value in mistakes.items()}
