"""Each check takes right answers, however written, and names what is wrong with the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cvbook import augmentation
from cvbook.checks import dropout_augmentation as checks


def by_mask(x, p, training):
    return x * (torch.rand_like(x) >= p) / (1 - p) if training else x


@pytest.mark.parametrize("answer", [by_mask, F.dropout])
def test_dropout_accepts(answer: Any) -> None:
    assert checks.dropout(answer).passed


def mask(x, keep):
    return (torch.rand_like(x) < keep).float()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x, p, t: x * mask(x, 1 - p) if t else x, "not scaled"),
        (lambda x, p, t: x * mask(x, 1 - p) if t else x * (1 - p), "not scaled"),
        (lambda x, p, t: by_mask(x, p, t) if t else x * (1 - p), "the training step has already divided"),
        (lambda x, p, t: by_mask(x, p, t) if t else x / (1 - p), "nothing was dropped"),
        (lambda x, p, t: x * mask(x, p) / p if t else x, "not to keep"),
        (lambda x, p, t: x * mask(x, 1 - p) / p if t else x, "divided by p"),
        (lambda x, p, t: x * mask(x, 1 - p) * (1 - p) if t else x, "multiplied by 1 - p"),
        (lambda x, p, t: by_mask(x, p, True), "still on at test time"),
        (lambda x, p, t: x * mask(x[:, :1], 1 - p) / (1 - p) if t else x, "whole rows or columns"),
        (lambda x, p, t: x, "nothing is dropped"),
        (lambda x, p, t: 0 * x, "everything is dropped"),
        (lambda x, p, t: F.dropout(x, 0.4, t), "of the numbers"),
        (lambda x, p, t: [1.0], "expected a tensor, got list"),
        (lambda x, p, t: x[:3], "expected a tensor of shape (400, 100), got (3, 100)"),
        (lambda x, p, t: by_mask(x, p, t).numpy(), "expected a tensor, got ndarray: use torch.rand_like(x)"),
        (
            lambda x, p, t: (
                x * (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) >= p) / (1 - p) if t else x
            ),
            "two calls drop the same",
        ),
    ],
)
def test_dropout_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.dropout(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("answer", [lambda p: p / (1 - p), lambda p: 1 / (1 - p) - 1])
def test_dropout_variance_accepts(answer: Any) -> None:
    assert checks.dropout_variance(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda p: p * (1 - p), "the variance of the mask"),
        (lambda p: 1 / (1 - p), "subtract the square of the mean"),
        (lambda p: (p / (1 - p)) ** 0.5, "standard deviation"),
        (lambda p: (1 - p) / p, "drop and keep are swapped"),
        (lambda p: p, "a factor counts squared"),
        (lambda p: 0.0, "everything is zero"),
    ],
)
def test_dropout_variance_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.dropout_variance(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def by_loop(images, generator):
    return torch.stack([i.flip(2) if torch.rand(1, generator=generator) < 0.5 else i for i in images])


@pytest.mark.parametrize("answer", [augmentation.horizontal_flip, by_loop])
def test_flip_half_accepts(answer: Any) -> None:
    assert checks.flip_half(answer).passed


def one_coin(images, generator):
    return images.flip(3) if torch.rand(1, generator=generator) < 0.5 else images


def first_half(images, generator):
    return torch.cat([images[:200].flip(3), images[200:]])


def every_second(images, generator):
    return torch.where(torch.arange(len(images))[:, None, None, None] % 2 == 0, images, images.flip(3))


def own_seed(images, generator):
    torch.manual_seed(0)
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images, images.flip(3))


def again_and_again(images, generator):
    return augmentation.horizontal_flip(images, torch.Generator().manual_seed(generator.initial_seed()))


def in_place(images, generator):
    coin = torch.rand(len(images), generator=generator) < 0.5
    images[coin] = images[coin].flip(3)
    return images


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (one_coin, "share one coin"),
        (in_place, "were changed"),
        (augmentation.vertical_flip, "top to bottom"),
        (lambda images, generator: images.flip(3), "every image is flipped"),
        (lambda images, generator: images, "no image is flipped"),
        (first_half, "different seeds flip the same images"),
        (every_second, "different seeds flip the same images"),
        (own_seed, "different seeds flip the same images"),
        (again_and_again, "two batches in a row are flipped alike"),
        (lambda images, generator: by_mask(images, 0.5, True), "neither themselves nor mirrored"),
        (
            lambda images, generator: torch.where(torch.rand(400, 1, 1, 1) < 0.5, images, images.flip(3)),
            "from the generator you are given",
        ),
        (
            lambda images, generator: torch.where(
                torch.rand(400, 1, 1, 1, generator=generator) < 0.9, images, images.flip(3)
            ),
            "expected one half",
        ),
        (lambda images, generator: torch.zeros_like(images), "neither themselves nor mirrored"),
        (lambda images, generator: images[:3], "expected a tensor of shape"),
    ],
)
def test_flip_half_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.flip_half(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def closed_form(X, w, p):
    return p / (1 - p) * ((X * w) ** 2).sum()


def by_rows(X, w, p):
    return sum(float(x**2 @ w**2) for x in X) * p / (1 - p)


@pytest.mark.parametrize("answer", [closed_form, by_rows])
def test_penalty_accepts(answer: Any) -> None:
    assert checks.penalty(answer).passed


def test_the_penalty_is_what_dropout_adds() -> None:
    generator = torch.Generator().manual_seed(0)
    X, w, y = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((7, 4), (4,), (7,)))
    masks = (torch.rand(20000, 7, 4, generator=generator) >= 0.3).double() / 0.7
    noisy = (((X * masks) @ w - y) ** 2).sum(1).mean()
    assert (noisy - ((X @ w - y) ** 2).sum()).item() == pytest.approx(closed_form(X, w, 0.3).item(), rel=0.05)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda X, w, p: p * (1 - p) * ((X * w) ** 2).sum(), "the variance of the scaled mask"),
        (lambda X, w, p: p / (1 - p) * (w**2).sum(), "plain weight decay"),
        (lambda X, w, p: closed_form(X, w, p) / 7, "the error is summed"),
        (lambda X, w, p: p / (1 - p) * ((X @ w) ** 2).sum(), "do not square the sum"),
        (lambda X, w, p: ((X * w) ** 2).sum(), "is missing"),
        (lambda X, w, p: 0.0, "everything is zero"),
    ],
)
def test_penalty_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.penalty(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("answer", ["C", " c "])
def test_wrong_augmentation_accepts(answer: str) -> None:
    assert checks.wrong_augmentation(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [("A", "a little noise"), ("B", "a paler digit"), ("D", "contrast"), ("E", "one of the letters"), (3, "letters")],
)
def test_wrong_augmentation_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.wrong_augmentation(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("name", "ABCD")
def test_mysteries_change_images_within_their_range(name: str) -> None:
    images = torch.rand(50, 1, 8, 8)
    changed = checks.mystery(name)(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert not torch.equal(changed, images)
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_there_are_four_mysteries() -> None:
    with pytest.raises(ValueError, match="one of A, B, C, D, got 'Z'"):
        checks.mystery("Z")


@pytest.mark.parametrize("name", ["dropout", "dropout_variance", "flip_half", "penalty"])
def test_stubs_are_not_attempted(name: str) -> None:
    assert getattr(checks, name)(None).state == "not attempted"
    assert getattr(checks, name)(lambda *arguments: None).state == "not attempted"


def test_an_empty_letter_is_not_attempted() -> None:
    assert checks.wrong_augmentation(None).state == "not attempted"
