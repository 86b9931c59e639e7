"""Checks of the homework on neurons, exercise 2: softmax with a mask, cross-entropy, gradients of two losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.answers import called, derived, explained, tensor
from cvbook.checks.by_hand import by_hand
from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["cross_entropy", "cross_entropy_gradient", "masked_softmax", "masked_softmax_far", "squared_gradient"]

AXES = {
    "must match the size of tensor": (
        "a sum or maximum along dim has lost that axis; keep it with length 1: keepdim=True"
    )
}
LOW = (-100.0, -1e3, -1e4)  # what stands for "minus infinity" in wrong answers
FORBIDDEN = ("torch.softmax", "torch.logsumexp")


@exercise("Exercise 2, masked softmax")
def masked_softmax(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(z, mask, dim)`` along every axis, for scores of ordinary size."""
    g = torch.Generator().manual_seed(seed)
    for shape, dim in (((3, 4), 1), ((3, 4), 0), ((4, 4), -1), ((2, 3, 4 + seed % 5), 1)):
        z, mask = _scores(g, shape, dim)
        right, e, other = _shares(z, mask, dim), z.exp(), (dim + 1) % z.ndim
        kept = e * mask
        all_shares = F.softmax(z, dim)
        mistakes = {
            "the mask is ignored": all_shares,
            "the mask is turned around: True means that a score takes part": _shares(z, ~mask, dim),
            "the shares are taken first and masked afterwards: what is left does not add up to 1": all_shares * mask,
            "a score of 0 is not absent, since exp(0) = 1: masked entries take part": F.softmax(z * mask, dim),
            f"this adds up along the last axis always; here dim={dim}": kept / kept.sum(-1, keepdim=True),
            f"this adds up along another axis than dim={dim}": kept / kept.sum(other, keepdim=True),
            "this divides by the sum over everything; along dim each row adds up to 1 by itself": kept / kept.sum(),
            "the exponentials are not divided by their sum": kept,
            "the exponential is missing": z * mask / (z * mask).sum(dim, keepdim=True),
            "this is the logarithm of the shares": right.log(),
        }
        what = f"scores of the shape {shape} and dim={dim}"
        got = called(explained(by_hand(answer, *FORBIDDEN), AXES), z=z, mask=mask, dim=dim)
        equal(tensor(got, what), right, mistakes=mistakes, what=what)
    return "right, along every axis"


@exercise("Exercise 2, scores far apart")
def masked_softmax_far(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The same function where `exp` overflows or underflows."""
    g = torch.Generator().manual_seed(seed)
    z, mask = _scores(g, (3, 5), 1)
    mask[:, 0], mask[:, 1] = True, False
    rows = torch.tensor([[0.0], [1e4], [-1e4]])
    loud, absent, one = z.clone(), z.clone(), z.clone()
    loud[:, 1], absent[:, 1], one[1, 0] = 1e4, -torch.inf, 1e4
    cases = (
        (z, "scores of usual size; see to the first check"),
        (z + 1e4, "all scores near 10 000: exp overflows; subtract the largest score first"),
        (z + rows, "one row 10 000 below the others: it needs its own largest score, not that of the whole tensor"),
        (one, "one score of 10 000 beside small ones: subtract the largest score, not the mean or the smallest"),
        (loud, "a masked score of 10 000: the largest score must be sought among those that take part"),
        (absent, "a masked score of minus infinity: it must not touch the others"),
    )
    for scores, sentence in cases:
        got = tensor(called(by_hand(answer, *FORBIDDEN), z=scores, mask=mask, dim=1), "3 x 5 scores")
        right = _shares(scores, mask, 1)
        if got.shape != right.shape:
            raise Wrong(f"expected shape {tuple(right.shape)}, got {tuple(got.shape)}")
        rounding = 3e-3 if scores.abs().amax() > 1e3 else 1e-6  # a float32 has steps of 0.001 near 10 000
        if torch.allclose(got, right, atol=rounding):
            continue
        if any(torch.allclose(got, F.softmax(scores.masked_fill(~mask, low), 1).double()) for low in LOW):
            raise Wrong("what you put in for masked scores is a possible score, too; only -math.inf is none")
        raise Wrong(f"wrong for {sentence}")
    return "right, and nothing overflows"


def _scores(g: torch.Generator, shape: tuple[int, ...], dim: int) -> tuple[Tensor, Tensor]:
    """Random scores, and a mask that keeps at least one along every axis and drops most along ``dim``."""
    z, order = torch.randn(shape, generator=g), torch.rand(shape, generator=g)
    mask = torch.rand(shape, generator=g) < 0.5
    mask = mask & (order > order.amin(dim, keepdim=True))
    for axis in range(len(shape)):
        mask = mask | (order == order.amax(axis, keepdim=True))
    return z, mask


def _shares(z: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax of the chosen scores alone, row by row, put back to their places."""
    result = torch.zeros(z.shape, dtype=torch.float64)
    rows, source, chosen = result.movedim(dim, -1), z.double().movedim(dim, -1), mask.movedim(dim, -1)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in rows.shape[:-1])).reshape(-1, z.ndim - 1).tolist():
        place = tuple(index)
        rows[(*place, chosen[place])] = F.softmax(source[(*place, chosen[place])], 0)
    return result


@exercise("Exercise 2, cross-entropy")
def cross_entropy(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(z, labels)``: the mean cross-entropy of (B, K) scores, also where probabilities underflow."""
    g = torch.Generator().manual_seed(seed)
    for B, K in ((4, 3), (1, 5), (3, 3 + seed % 5)):
        z, labels = torch.randn(B, K, generator=g), torch.randint(K, (B,), generator=g)
        labels[0] = K - 1
        right, p = F.cross_entropy(z.double(), labels), F.softmax(z, 1)
        own = p[torch.arange(B), labels]
        mistakes = {
            "the sign is wrong: a logarithm of a probability is negative, the loss is not": -right,
            "this is the sum over the images; take the mean": right * B,
            "the mean is also taken over the classes; divide by the number of images": right / K,
            "there is one loss for each image; return their mean": -own.log(),
            "softmax is applied twice: the logarithm takes the shares themselves": F.cross_entropy(p, labels),
            "the logarithm is missing: this is 1 minus the share": (1 - own).mean(),
            "the mean of the shares is taken before the logarithm": -own.mean().log(),
            "the logarithm of all shares is added up; only the share of the right class counts": (
                -p.log().sum(1).mean()
            ),
            "the labels are ignored: this is the share of the highest score": -p.amax(1).log().mean(),
            "this is the logarithm to base 2; the loss takes the natural one": right / torch.tensor(2.0).log(),
            "the largest score is subtracted before the sum, but not added again": (
                right - z.amax(1).double().mean()
            ),
            "the sum of exponentials is missing: the loss is not just the score": (
                -z[torch.arange(B), labels].mean()
            ),
            "p[:, labels] takes all labels from every row; take one from each: p[torch.arange(B), labels]": (
                -p[:, labels].log().mean()
            ),
            "the shares are taken among the images; the classes are axis 1": (
                -F.softmax(z, 0)[torch.arange(B), labels].log().mean()
            ),
        }  # fmt: skip
        what = f"{B} image(s) and {K} classes"
        got = called(by_hand(answer, *FORBIDDEN), z=z, labels=labels)
        equal(tensor(got, what), right, mistakes=mistakes, what=what)
    labels, z = torch.tensor([0, 2]), torch.randn(2, 3, generator=g)
    ahead = torch.tensor([[0.0, 95.0, 0.0], [0.0, 95.0, 0.0]])
    sure = torch.tensor([[0.0, 200.0, 0.0], [0.0, 300.0, 0.0]])
    for scores, sentence in (
        (z.double() + 1e4, "scores near 10 000: exp overflows; subtract each row's largest score first"),
        (z.double() + torch.tensor([[0.0], [-1e4]]), "rows that lie 10 000 apart: each needs its own largest score"),
        (ahead, "a wrong class that leads by 95: exp of the lead overflows; subtract the row's largest score, not that "
                "of the label"),
        (sure, "a wrong class that leads by 200: the share of the right one rounds to 0 and its logarithm is lost; "
               "never form the share, write log(exp(a) / s) as a - log(s)"),
    ):  # fmt: skip
        got = tensor(called(by_hand(answer, *FORBIDDEN), z=scores, labels=labels), "two images")
        right = F.cross_entropy(scores.double(), labels)
        if got.shape == right.shape and got.isfinite() and 5 < got < right - 1:
            raise Wrong("a constant inside the logarithm caps the loss; never form the share, write a - log(s)")
        if not torch.allclose(got, right, rtol=1e-4):
            raise Wrong(f"wrong for {sentence}")
    return "right, even where a share rounds to 0"


@exercise("Exercise 2, gradient of the cross-entropy")
def cross_entropy_gradient(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(z, labels)``: the derivatives (B, K) of the mean cross-entropy by the scores."""
    for z, labels, right, p, y in _batches(F.cross_entropy, seed):
        B, K = z.shape
        mistakes = {
            "the sign is wrong: a higher score of the right class makes the loss smaller": -right,
            "the mean over the batch is forgotten: each image counts 1/B": right * B,
            "this divides by the number of classes as well": right / K,
            "this divides by the number of classes; the mean is over the images": right * B / K,
            "the label is missing: subtract 1 where the class is right": p / B,
            "this is the right class alone; the other scores have a slope too": right * y,
            "there is a factor 2 too many": 2 * right,
            "p (1 - p) cancels against the slope of the logarithm": right * p * (1 - p),
            "the order is mixed up: subtract the label's 1 after the softmax, not from the score": (
                F.softmax(z - y, 1) / B
            ),
            "this takes the scores for shares; apply softmax first": (z - y) / B,
            "p[:, labels] changes all labels in every row; change one in each: p[torch.arange(B), labels]": (
                (p - y.amax(0)) / B
            ),
            "the shares are taken among the images; the classes are axis 1": (F.softmax(z, 0) - y) / B,
        }  # fmt: skip
        _gradient(answer, z, labels, right, mistakes)
    return "right: share minus label, divided by the batch"


@exercise("Exercise 2, gradient of the squared error")
def squared_gradient(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """``answer(z, labels)``: the derivatives (B, K) of the mean over images of half the squared distance p - y."""

    def half_square(z: Tensor, labels: Tensor) -> Tensor:
        return 0.5 * (F.softmax(z, 1) - F.one_hot(labels, z.shape[1])).square().sum(1).mean()

    for z, labels, right, p, y in _batches(half_square, seed):
        B, K = z.shape
        d = p - y
        mistakes = {
            "the slope of softmax is missing: p - y is the derivative by p, not by z": d / B,
            "the slope of softmax is missing, and the mean over the batch": d,
            "softmax has a matrix of slopes: each score moves all shares, not only its own": d * p * (1 - p) / B,
            "there is a factor 2 too many: the 1/2 of the loss takes it away": 2 * right,
            "the sign is wrong": -right,
            "the mean over the batch is forgotten: each image counts 1/B": right * B,
            "this divides by the number of classes as well": right / K,
            "only the first term is there: p d, without the part that all scores share": p * d / B,
            "the shared part is averaged; it is the sum over k of p_k d_k": p * (d - (p * d).mean(1, keepdim=True)) / B,
            "the shared part has the wrong sign: it is subtracted": p * (d + (p * d).sum(1, keepdim=True)) / B,
            "the share in front of the bracket is missing": (d - (p * d).sum(1, keepdim=True)) / B,
            "the shared part lacks the shares: it is the sum of p_k d_k, not of d_k": (
                p * (d - d.sum(1, keepdim=True)) / B
            ),
            "the sum runs over the images; it belongs to the classes of one image": p * (d - (p * d).sum(0)) / B,
        }  # fmt: skip
        _gradient(answer, z, labels, right, mistakes)
    return "right: every score moves every share"


def _batches(loss: Callable[[Tensor, Tensor], Tensor], seed: int) -> list[tuple[Tensor, ...]]:
    """Scores, labels, the gradient by autograd, shares and labels as 0 and 1, for three batches."""
    g = torch.Generator().manual_seed(seed)
    batches: list[tuple[Tensor, ...]] = []
    for B, K in ((4, 3), (1, 4 + seed % 5), (3, 3)):
        z = (2 * torch.randn(B, K, generator=g, dtype=torch.float64)).requires_grad_()
        labels = torch.randint(K, (B,), generator=g)
        (right,) = torch.autograd.grad(loss(z, labels), z)
        z = z.detach()
        batches.append((z, labels, right, F.softmax(z, 1), F.one_hot(labels, K).double()))
    return batches


def _gradient(
    answer: Callable[..., Any], z: Tensor, labels: Tensor, right: Tensor, mistakes: dict[str, Tensor]
) -> None:
    what = f"{len(z)} image(s) and {z.shape[1]} classes"
    equal(tensor(derived(answer, z=z, labels=labels), what), right, mistakes=mistakes, what=what)
