"""Checks of the lesson *Dropout and augmentation*."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["dropout", "dropout_variance", "flip_half", "mystery", "penalty", "wrong_augmentation"]


@exercise("Inverted dropout")
def dropout(answer: Callable[[Tensor, float, bool], Tensor]) -> str:
    """``answer(x, p, training)`` drops each number with probability p in training and keeps the mean."""
    for p in (0.1, 0.75):
        x = torch.rand(400, 100) + 1
        y = answer(x.clone(), p, True)
        if y is None or y is ...:
            raise NotImplementedError
        y = _tensor(y, x)
        kept = y != 0
        share = kept.float().mean().item()
        if not kept.any():
            raise Wrong("everything is dropped")
        if kept.all():
            raise Wrong("nothing is dropped in training")
        if abs(share - (1 - p)) > 0.05 and abs(share - p) < 0.05:
            raise Wrong(f"with p = {p} you drop {1 - share:.0%}: p is the probability to drop here, not to keep")
        rows, columns = kept.float().mean(1), kept.float().mean(0)
        if rows.std() > 0.2 or columns.std() > 0.2:
            raise Wrong("whole rows or columns are dropped together; each number is decided for itself")
        if abs(share - (1 - p)) > 0.02:
            raise Wrong(f"with p = {p} you drop {1 - share:.0%} of the numbers")
        factor = (y[kept] / x[kept]).mean().item()
        if abs(factor - 1) < 1e-3:
            raise Wrong(f"the kept numbers are not scaled: the mean falls to {1 - p:g} of what it was; divide by 1 - p")
        if abs(factor - 1 / p) < 1e-3:
            raise Wrong("the kept numbers are divided by p; p of them are dropped, so divide by 1 - p")
        if abs(factor - (1 - p)) < 1e-3:
            raise Wrong("the kept numbers are multiplied by 1 - p; divide instead, so that the mean is kept")
        equal(y, torch.where(kept, x / (1 - p), 0.0), what=f"p = {p} in training")
        _at_test_time(answer(x.clone(), p, False), x, p)
    if torch.equal(torch.as_tensor(answer(x.clone(), 0.5, True)), torch.as_tensor(answer(x.clone(), 0.5, True))):
        raise Wrong("two calls drop the same numbers; draw a new mask for each call")
    return "right: the mean is kept in training, and nothing happens at test time"


def _at_test_time(y: object, x: Tensor, p: float) -> None:
    mistakes = {
        "at test time nothing is scaled: the training step has already divided": x * (1 - p),
        "at test time nothing is divided: nothing was dropped": x / (1 - p),
    }
    if y is not None and y is not ... and (_tensor(y, x) == 0).any():
        raise Wrong("dropout is still on at test time: return x as it is if training is False")
    equal(y, x, mistakes=mistakes, what=f"p = {p} at test time")


def _tensor(y: object, x: Tensor) -> Tensor:
    """The answer as a tensor shaped like ``x``."""
    if not isinstance(y, Tensor):
        hint = ": use torch.rand_like(x), which gives a tensor" if type(y).__name__ == "ndarray" else ""
        raise Wrong(f"expected a tensor, got {type(y).__name__}{hint}")
    if y.shape != x.shape:
        raise Wrong(f"expected a tensor of shape {tuple(x.shape)}, got {tuple(y.shape)}")
    return y


@exercise("The noise of dropout")
def dropout_variance(answer: Callable[[float], float]) -> str:
    """``answer(p)`` is the variance of inverted dropout applied to the number 1."""
    for p in (0.1, 0.3, 0.8):
        right = p / (1 - p)
        mistakes = {
            "this is the variance of the mask; the mask is also divided by 1 - p, which counts squared": p * (1 - p),
            "this is the mean of the square; subtract the square of the mean": 1 / (1 - p),
            "this is the standard deviation": right**0.5,
            "drop and keep are swapped: without dropout (p = 0) there is no noise": (1 - p) / p,
            "the mask's variance is divided by 1 - p once; a factor counts squared": p,
        }
        known = {key: torch.tensor(value) for key, value in mistakes.items()}
        equal(answer(p), torch.tensor(right), mistakes=known, what=f"p = {p}")
    return "right: p / (1 - p), which is 1 at p = 0.5"


@exercise("Flip half of them")
def flip_half(answer: Callable[[Tensor, torch.Generator], Tensor]) -> str:
    """``answer(images, generator)`` mirrors each image left to right with probability one half."""
    images = torch.rand(400, 2, 5, 6)
    before = images.clone()
    got = answer(images, torch.Generator().manual_seed(3))
    if got is None or got is ...:
        raise NotImplementedError
    got = _tensor(got, before)
    if not torch.equal(images, before):
        raise Wrong("the images that came in were changed; the next epoch would start from flipped ones: make new ones")
    mirrored, same = _like(got, before.flip(3)), _like(got, before)
    if _like(got, before.flip(2)).any():
        raise Wrong("this flips top to bottom (axis 2); left to right is the last axis")
    if not (mirrored | same).all():
        raise Wrong("some images are neither themselves nor mirrored")
    if mirrored.all() or same.all():
        coins = {torch.equal(answer(before.clone(), torch.Generator().manual_seed(s)), before) for s in range(8)}
        if len(coins) == 2:
            raise Wrong("all images share one coin: draw one number for each image")
        raise Wrong(f"{'no' if same.all() else 'every'} image is flipped; flip each with probability one half")
    if abs(mirrored.float().mean().item() - 0.5) > 0.1:
        raise Wrong(f"{mirrored.float().mean().item():.0%} of the images are flipped; expected one half")
    if torch.equal(got, answer(before.clone(), torch.Generator().manual_seed(4))):
        raise Wrong("two generators with different seeds flip the same images: draw from the generator you are given")
    torch.manual_seed(9)
    if not torch.equal(got, answer(before.clone(), torch.Generator().manual_seed(3))):
        raise Wrong("two generators with the same seed give different results: draw from the generator you are given")
    generator = torch.Generator().manual_seed(3)
    if torch.equal(answer(before.clone(), generator), answer(before.clone(), generator)):
        raise Wrong("two batches in a row are flipped alike: do not seed the generator again, only draw from it")
    return "right: one coin for each image, drawn from the generator"


def _like(a: Tensor, b: Tensor) -> Tensor:
    return (a == b).flatten(1).all(1)


@exercise("Dropout is a penalty")
def penalty(answer: Callable[[Tensor, Tensor, float], float]) -> str:
    """``answer(X, w, p)`` is how much dropout on X raises the expected squared error of ``X @ w``, summed over rows."""
    for p in (0.2, 0.6):
        X, w = torch.randn(7, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
        products = (X * w) ** 2
        right = p / (1 - p) * products.sum()
        mistakes = {
            "the factor is the variance of the scaled mask, p / (1 - p)": p * (1 - p) * products.sum(),
            "this is plain weight decay; each weight is punished by the size of its own input": (
                p / (1 - p) * (w**2).sum()
            ),
            "this is the mean over the rows; the error is summed": right / 7,
            "variances of independent terms add; do not square the sum": p / (1 - p) * ((X @ w) ** 2).sum(),
            "the factor p / (1 - p) is missing": products.sum(),
        }
        equal(answer(X.clone(), w.clone(), p), right, mistakes=mistakes, what=f"7 rows, 4 weights, p = {p}")
    return "right: weight decay, scaled by the size of each input"


def mystery(name: str) -> Callable[[Tensor, torch.Generator], Tensor]:
    """One of four augmentations ``"A"`` to ``"D"`` for small digits; which of them harms is for the reader to find."""

    def one(images: Tensor, generator: torch.Generator) -> Tensor:
        return (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)

    def two(images: Tensor, generator: torch.Generator) -> Tensor:
        return images * (0.7 + 0.3 * torch.rand(len(images), 1, 1, 1, generator=generator))

    def three(images: Tensor, generator: torch.Generator) -> Tensor:
        coin = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        return torch.where(coin, images.transpose(2, 3), images)

    def four(images: Tensor, generator: torch.Generator) -> Tensor:
        return images ** (0.7 + 0.6 * torch.rand(len(images), 1, 1, 1, generator=generator))

    known = {"A": one, "B": two, "C": three, "D": four}
    if name not in known:
        raise ValueError(f"expected one of A, B, C, D, got {name!r}")
    return known[name]


@exercise("Find the wrong augmentation")
def wrong_augmentation(answer: str) -> str:
    """``answer`` names the one of the four mystery augmentations that teaches something false."""
    told = {
        "A": "a little noise leaves a digit what it is; measure the others, with several seeds each",
        "B": "a paler digit is the same digit; measure the others, with several seeds each",
        "D": "a stronger or weaker contrast leaves a digit what it is; measure the others, with several seeds each",
    }
    if not isinstance(answer, str) or answer.strip().upper() not in {"A", "B", "C", "D"}:
        raise Wrong(f"expected one of the letters A, B, C, D, got {answer!r}")
    letter = answer.strip().upper()
    if letter in told:
        raise Wrong(told[letter])
    return "right: C swaps rows and columns, and no writer does that"
