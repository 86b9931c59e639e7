"""Checks of the homework on convolution, exercises 6 and 7: batch normalization and augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cvbook.checks.answers import Stopped, called
from cvbook.checks.by_hand import by_hand
from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = [
    "batch_norm_eval", "batch_norm_mean", "batch_norm_output", "batch_norm_variance", "change_in_points",
    "look_alikes", "wrong_augmentation",
]  # fmt: skip

Mistakes = dict[str, Callable[[], object]]
EXCHANGED = "mean and variance are exchanged: the results are (y, running_mean, running_var)"
EPS, MOMENTUM = 0.3, 0.2  # unlike the defaults, so that leaving one out shows


def _batch(seed: int) -> tuple[Tensor, ...]:
    """A small batch whose channels differ, not 3 pixels wide, and gamma, beta, running mean and variance, each (3,)."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 2, 4 + seed % 5, generator=g) * torch.tensor([0.5, 1.0, 2.0]).view(1, 3, 1, 1)
    x += torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1, 1)
    gamma, mean = torch.rand(3, generator=g) + 0.5, torch.randn(3, generator=g)
    return x, gamma, torch.randn(3, generator=g), mean, torch.rand(3, generator=g) + 0.5


def _normed(answer: Callable[..., Any], batch: tuple[Tensor, ...], training: bool) -> tuple[Any, Any, Any]:
    try:
        names = ("x", "gamma", "beta", "running_mean", "running_var")
        given = dict(zip(names, batch, strict=True)) | {"training": training, "momentum": MOMENTUM, "eps": EPS}
        got = called(by_hand(answer, "F.batch_norm"), **given)
    except Stopped as error:
        if "non-singleton dimension 3" not in str(error):
            raise
        raise Wrong(
            "the shapes do not fit: means over dim=(0, 2, 3) are a vector (C,), and v[:, None, None] lays it along the "
            "channels; without that it meets the width"
        ) from None
    if not isinstance(got, (tuple, list)) or len(got) != 3:
        what = f"{len(got)}" if isinstance(got, (tuple, list)) else f"a {type(got).__name__}"
        raise Wrong(f"expected three results (y, running_mean, running_var), got {what}")
    return got[0], got[1], got[2]


def _wide(v: Tensor) -> Tensor:
    return v.view(1, -1, 1, 1)


@exercise("Exercise 6, output in training")
def batch_norm_output(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The normalized batch against ``F.batch_norm`` in training mode."""
    batch = _batch(seed)
    x, gamma, beta, mean, var = batch
    y = F.batch_norm(x, None, None, gamma, beta, training=True, eps=EPS)

    def over(dims: tuple[int, ...], correction: int = 0) -> Tensor:
        m, v = x.mean(dims, keepdim=True), x.var(dims, correction=correction, keepdim=True)
        return (x - m) / (v + EPS).sqrt() * _wide(gamma) + _wide(beta)

    plain = F.batch_norm(x, None, None, training=True, eps=EPS)
    center, v = x - x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    mistakes: Mistakes = {
        "each pixel has its own statistics; take them over the batch and both image axes, dim=(0, 2, 3)": (
            lambda: over((0,))
        ),
        "each image has its own statistics, which is instance normalization; include the batch axis": (
            lambda: over((2, 3))
        ),
        "the statistics are over the channels of an image, which is layer normalization; keep one for each channel": (
            lambda: over((1, 2, 3))
        ),
        "all channels share one mean and variance; keep one for each channel": lambda: over((0, 1, 2, 3)),
        "the running statistics are used in training; there the batch's own are used": (
            lambda: F.batch_norm(x, mean, var, gamma, beta, training=False, eps=EPS)
        ),
        "the normalization divides by the biased variance, correction=0; only running_var takes the unbiased one": (
            lambda: over((0, 2, 3), 1)
        ),
        "eps belongs inside the square root": lambda: center / (v.sqrt() + EPS) * _wide(gamma) + _wide(beta),
        "eps is not added to the variance": lambda: center / v.sqrt() * _wide(gamma) + _wide(beta),
        "this divides by the variance; divide by its square root": (
            lambda: center / (v + EPS) * _wide(gamma) + _wide(beta)
        ),
        "gamma and beta are left out": lambda: plain,
        "beta is left out": lambda: plain * _wide(gamma),
        "gamma is left out": lambda: plain + _wide(beta),
        "gamma and beta are exchanged": lambda: plain * _wide(beta) + _wide(gamma),
    }
    equal(_normed(answer, batch, True)[0], y, mistakes=mistakes, what="a batch of 2 images with 3 channels in training")
    return "right, one mean and one variance for each channel"


@exercise("Exercise 6, running mean")
def batch_norm_mean(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The running mean after one training step."""
    batch = _batch(seed)
    old, new = batch[3], batch[0].mean((0, 2, 3))
    mistakes: Mistakes = {
        EXCHANGED: lambda: (1 - MOMENTUM) * batch[4] + MOMENTUM * batch[0].var((0, 2, 3)),
        "the running mean is not updated": lambda: old,
        "the running mean is replaced; move it by the share momentum only": lambda: new,
        "momentum is the weight of the new mean, not of the old one": lambda: MOMENTUM * old + (1 - MOMENTUM) * new,
        "the new mean is added without shrinking the old one by 1 - momentum": lambda: old + MOMENTUM * new,
    }
    right = (1 - MOMENTUM) * old + MOMENTUM * new
    equal(_normed(answer, batch, True)[1], right, mistakes=mistakes, what=f"the running mean with momentum {MOMENTUM}")
    return "right"


@exercise("Exercise 6, running variance")
def batch_norm_variance(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """The running variance after one training step: it takes the unbiased variance."""
    batch = _batch(seed)
    old = batch[4]
    biased, unbiased = (batch[0].var((0, 2, 3), correction=c) for c in (0, 1))

    def moved(new: Tensor) -> Tensor:
        return (1 - MOMENTUM) * old + MOMENTUM * new

    mistakes: Mistakes = {
        EXCHANGED: lambda: (1 - MOMENTUM) * batch[3] + MOMENTUM * batch[0].mean((0, 2, 3)),
        "this takes the biased variance; running_var takes the unbiased one, divided by n - 1": lambda: moved(biased),
        "the running variance is not updated": lambda: old,
        "the running variance is replaced; move it by the share momentum only": lambda: unbiased,
        "momentum is the weight of the new variance, not of the old one": (
            lambda: MOMENTUM * old + (1 - MOMENTUM) * unbiased
        ),
        "this takes the standard deviation; running_var holds a variance": lambda: moved(unbiased.sqrt()),
        "eps is added to the running variance; it belongs to the normalization only": lambda: moved(biased + EPS),
        "eps is added to the running variance, where it does not belong": lambda: moved(unbiased + EPS),
    }
    what = f"the running variance with momentum {MOMENTUM}"
    equal(_normed(answer, batch, True)[2], moved(unbiased), mistakes=mistakes, what=what)
    return "right, and unbiased"


@exercise("Exercise 6, evaluation")
def batch_norm_eval(answer: Callable[..., Any], *, seed: int = 0) -> str:
    """Output with running statistics, which stay as they are; also for a single image."""
    x, *rest = _batch(seed)
    for images in (x, x[:1]):
        _evaluated(answer, (images, *rest))
    return "right, with the running statistics, which stay as they are"


def _evaluated(answer: Callable[..., Any], batch: tuple[Tensor, ...]) -> None:
    x, gamma, beta, mean, var = batch
    center = x - _wide(mean)
    mistakes: Mistakes = {
        "the batch's own statistics are used in evaluation; use running_mean and running_var": (
            lambda: F.batch_norm(x, None, None, gamma, beta, training=True, eps=EPS)
        ),
        "this divides by running_var; divide by the square root of running_var + eps": (
            lambda: center / (_wide(var) + EPS) * _wide(gamma) + _wide(beta)
        ),
        "eps belongs inside the square root": (lambda: center / (_wide(var).sqrt() + EPS) * _wide(gamma) + _wide(beta)),
        "eps is not added to running_var": lambda: center / _wide(var).sqrt() * _wide(gamma) + _wide(beta),
        "gamma and beta are left out": lambda: F.batch_norm(x, mean, var, training=False, eps=EPS),
    }
    got, new_mean, new_var = _normed(answer, batch, False)
    right = F.batch_norm(x, mean, var, gamma, beta, training=False, eps=EPS)
    equal(got, right, mistakes=mistakes, what=f"{len(x)} image(s) in evaluation")
    for name, new, old in (("mean", new_mean, mean), ("variance", new_var, var)):
        if not torch.allclose(torch.as_tensor(new).float(), old):
            raise Wrong(f"the running {name} changes in evaluation; an image to predict must leave no trace")


@exercise("Exercise 7, change in points")
def change_in_points(answer: Callable[..., dict[str, float]], *, seed: int = 0) -> str:
    """The reader's experiment with a pretended ``train(augment, seed)`` whose accuracies are known."""
    seeds = [seed + 3, seed + 5, seed + 9, seed + 2]
    base = dict(zip(seeds, (0.90, 0.80, 0.85, 0.87), strict=True))
    augmentations: dict[str, Callable[..., Tensor]] = {"a": lambda b, g: b, "b": lambda b, g: b.flip(3)}
    effect = {"a": (0.0213, 0.0541, -0.0138, 0.0117), "b": (-0.0724, 0.0113, -0.0631, -0.0357)}

    def train(augment: object, seed: int) -> float:
        if seed not in base:
            raise Wrong(f"train was called with seed {seed}, but the seeds are {seeds}; loop over the seeds given")
        names = [name for name, known in augmentations.items() if known is augment]
        if augment is not None and not names:
            raise Wrong("train was called with something that is none of the augmentations; pass the function, or None")
        return base[seed] + (effect[names[0]][seeds.index(seed)] if names else 0)

    got = answer(train, augmentations, seeds)
    if got is None or got is ...:
        raise NotImplementedError
    if not isinstance(got, dict) or list(got) != list(augmentations):
        raise Wrong(f"expected a dict with one number for each of {list(augmentations)}, got {got!r}")
    mean, changes = torch.tensor(list(base.values())), torch.tensor([effect[name] for name in augmentations])
    right = 100 * changes.mean(1)
    mistakes: Mistakes = {
        "the sign is wrong: a gain over training without augmentation is positive": lambda: -right,
        "this is a fraction; a change of 0.05 in accuracy is 5 points": lambda: right / 100,
        "only the first seed counts here; average over all seeds": lambda: 100 * changes[:, 0],
        "only the last seed counts here; average over all seeds": lambda: 100 * changes[:, -1],
        "the changes are added up over the seeds; average them": lambda: 100 * changes.sum(1),
        "this divides by 3; there may be more seeds, or fewer": lambda: 100 * changes.sum(1) / 3,
        "this is the change relative to the accuracy; points are differences of accuracies in percent": (
            lambda: 100 * (changes / mean).mean(1)
        ),
        "every seed is compared with the first seed's baseline; compare with the same seed": (
            lambda: 100 * ((mean + changes).mean(1) - mean[0])
        ),
        "this is the accuracy itself; subtract that of training without augmentation": (
            lambda: 100 * (mean + changes).mean(1)
        ),
        "this is the accuracy itself, as a fraction; subtract that without augmentation": (
            lambda: (mean + changes).mean(1)
        ),
    }
    equal([got[name] for name in augmentations], right, mistakes=mistakes, what="two augmentations and four seeds")
    return "right, averaged over the seeds"


@exercise("Exercise 7, look-alikes")
def look_alikes(answer: Callable[..., Sequence[int]], *, seed: int = 0) -> str:
    """For each class of made-up 1x3 images, the class whose mean the changed images come nearest to."""
    g = torch.Generator().manual_seed(seed)
    # classes so wide that it makes a difference whether images are changed or their means; found by a search
    centers = torch.tensor([[7.5, 8.0, 7.5], [2.5, 0.0, 9.0], [0.0, 4.0, 1.5], [2.0, 0.5, 1.0]])
    widths = torch.tensor([[1.5, 3.5, 3.0], [3.0, 0.0, 1.0], [0.0, 3.0, 1.5], [0.5, 1.0, 0.0]])
    order = torch.randperm(20, generator=g)
    labels, side = torch.arange(4).repeat(5)[order], torch.tensor([1, -1, 1, -1, 0]).repeat_interleave(4)[order]
    images = centers[labels] + side[:, None] * widths[labels] + 0.05 * torch.randn(20, 3, generator=g)
    images = images[:, None, None]
    means = torch.stack([images[labels == c].mean(0).flatten() for c in range(4)])

    calls = []

    def moved(batch: Tensor) -> Tensor:
        calls.append(batch)
        if batch.ndim != 4:
            raise Wrong(f"change was called with shape {tuple(batch.shape)}; it takes a batch of images (N, C, H, W)")
        return batch.roll(1, 3).square() / 4  # not linear

    distances = torch.cdist(_means(moved, images, labels), means)
    calls.clear()
    got = answer(moved, images, labels)
    same = "nothing is changed: every class looks like itself; apply change to the images first"
    if calls:
        same = "both sides are changed: compare the changed averages with the unchanged ones"
    mistakes: Mistakes = {
        same: lambda: [0, 1, 2, 3],
        "the means are changed; change the images first, then average": (
            lambda: torch.cdist(moved(means[:, None, None])[:, 0, 0], means).argmin(1)
        ),
        "this is the class of the nearest image; compare with the mean of each class": (
            lambda: labels[torch.cdist(_means(moved, images, labels), images.flatten(1)).argmin(1)]
        ),
        "this is the farthest class; the nearest is asked for": lambda: distances.argmax(1),
        "the question is turned around: for each changed class, find the nearest unchanged one (argmin over dim=1)": (
            lambda: distances.argmin(0)
        ),
    }
    equal(got, distances.argmin(1), mistakes=mistakes, what="4 classes")
    return "right, nearest means found"


def _means(change: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([change(images[labels == c]).mean(0).flatten() for c in range(4)])


@exercise("Exercise 7, the wrong augmentation")
def wrong_augmentation(answer: Callable[[], tuple[str, int]], *, seed: int = 0) -> str:
    """``answer()`` is the name of the augmentation that hurts and the digit that a changed 7 looks like."""
    got = answer()
    if got is None or got is ...:
        raise NotImplementedError
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Wrong(f'expected a name and a digit, for example ("noise", 4), got {got!r}')
    name, digit = got
    if callable(name):
        raise Wrong('write the name of the augmentation in quotes, for example ("noise", 4)')
    if isinstance(digit, str) and not digit.strip().isdigit():
        raise Wrong("the two results are exchanged: first the name, then the digit")
    if str(name).strip().lower() != "flip":
        raise Wrong(f"{name!r} is not it: look for the augmentation whose change is several points below zero")
    if int(digit) != 1:
        raise Wrong(f"a flipped 7 does not look most like a {digit}; look at position 7 of what look_alikes returns")
    return "right: flipped, a 7 comes close to a 1, but its label still says 7"
