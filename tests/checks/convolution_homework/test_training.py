"""Exercises 6 and 7 of the homework: plausible wrong answers are told their mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cvbook.checks import convolution_homework as checks
from cvbook.checks.convolution_homework import training as module


def wide(v: Tensor) -> Tensor:
    return v[:, None, None]


def norm(
    *, dims: tuple[int, ...] = (0, 2, 3), correction: int = 0, outside: bool = False, affine: str = "both",
    use: str = "batch", running: str = "right", var_from: int = 1, eps_in_eval: bool = True,
) -> Callable[..., Any]:  # fmt: skip
    """Batch normalization with the mistakes asked for."""

    def answer(x, gamma, beta, mean, var, training, momentum, eps):  # type: ignore[no-untyped-def]
        m, v = x.mean(dims, keepdim=True), x.var(dims, correction=correction, keepdim=True)
        if use == "running" or (not training and use != "always batch"):
            m, v = wide(mean), wide(var)
        eps = eps if training or eps_in_eval else 0
        y = (x - m) / (v.sqrt() + eps if outside else (v + eps).sqrt())
        y = y * wide(gamma) if affine in ("both", "gamma") else y
        y = y + wide(beta) if affine in ("both", "beta") else y
        new_mean, new_var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=var_from)
        if running == "still" or (not training and running != "also eval"):
            return y, mean, var
        if running == "replaced":
            return y, new_mean, new_var
        if running == "exchanged":
            momentum = 1 - momentum
        if running == "std":
            new_var = new_var.sqrt()
        keep = 1 if running == "added" else 1 - momentum
        return y, keep * mean + momentum * new_mean, keep * var + momentum * new_var

    return answer


def changes(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., dict[str, float]]:
    def answer(train: Any, augmentations: Any, seeds: Any) -> dict[str, float]:
        plain = torch.tensor([train(None, seed) for seed in seeds])
        return {
            name: float(combine(torch.tensor([train(augment, seed) for seed in seeds]), plain))
            for name, augment in augmentations.items()
        }

    return answer


def alike(choose: Callable[[Tensor], Tensor], change_it: bool = True) -> Callable[..., Tensor]:
    def answer(change: Any, images: Tensor, labels: Tensor) -> Tensor:
        means = torch.stack([images[labels == c].mean(0) for c in range(int(labels.max()) + 1)])
        return choose(torch.cdist((change(means) if change_it else means).flatten(1), means.flatten(1)))

    return answer


def both_changed(change: Any, images: Tensor, labels: Tensor) -> Tensor:
    return alike(lambda d: d.argmin(1), change_it=False)(None, change(images), labels)


def points(average: Any) -> Any:
    def answer(train: Any, augmentations: Any, seeds: Any) -> Any:
        return {
            name: average([100 * (train(augment=augment, seed=s) - train(augment=None, seed=s)) for s in seeds])
            for name, augment in augmentations.items()
        }

    return answer


def nearest_image(change: Any, images: Any, labels: Any) -> Any:
    changed = torch.stack([change(images[labels == c]).mean(0).flatten() for c in range(int(labels.max()) + 1)])
    return labels[torch.cdist(changed, images.flatten(1)).argmin(1)]


def nearest_of(images: Any, labels: Any, changed: Any) -> Any:
    classes = range(int(labels.max()) + 1)
    means = torch.stack([images[labels == c].mean(0).flatten() for c in classes])
    return torch.cdist(torch.stack([changed(images[labels == c]).flatten() for c in classes]), means).argmin(1)


# check, answer, part of the message that names the mistake
MISTAKES: list[tuple[str, Any, str]] = [
    ("change_in_points", points(lambda v: sum(v) / 3), "this divides by 3"),
    ("change_in_points", points(lambda v: round(sum(v) / len(v), 1)), "rounded to 1 place"),
    (
        "look_alikes",
        lambda change, x, y: nearest_of(x, y, lambda own: change(own.mean(0)[None])[0]),
        "the means are changed",
    ),
    ("look_alikes", nearest_image, "class of the nearest image"),
    ("wrong_augmentation", lambda: (len, 1), "in quotes"),
    ("wrong_augmentation", lambda: (1, "flip"), "are exchanged"),
    ("batch_norm_output", norm(dims=(0,)), "each pixel has its own statistics"),
    ("batch_norm_output", norm(dims=(2, 3)), "instance normalization"),
    ("batch_norm_output", norm(dims=(1, 2, 3)), "layer normalization"),
    ("batch_norm_output", norm(dims=(0, 1, 2, 3)), "all channels share"),
    ("batch_norm_output", norm(use="running"), "running statistics are used in training"),
    ("batch_norm_output", norm(correction=1), "biased variance, correction=0"),
    ("batch_norm_output", norm(outside=True), "eps belongs inside"),
    ("batch_norm_output", norm(affine="none"), "gamma and beta are left out"),
    ("batch_norm_output", norm(affine="gamma"), "beta is left out"),
    ("batch_norm_output", norm(affine="beta"), "gamma is left out"),
    ("batch_norm_output", lambda x, *rest: x, "expected three results (y, running_mean, running_var), got a Tensor"),
    ("batch_norm_output", lambda x, *rest: [x, x], "expected three results (y, running_mean, running_var), got 2"),
    ("batch_norm_output", lambda x, g, *rest: (x * g, *rest[:2]), "v[:, None, None] lays it along"),
    ("batch_norm_output", lambda x, *rest: (x.flatten(1) @ x, x, x), "your code stopped with RuntimeError"),
    ("batch_norm_output", lambda x, g, b, *rest: norm()(x, b, g, *rest), "gamma and beta are exchanged"),
    ("batch_norm_mean", norm(running="still"), "not updated"),
    ("batch_norm_mean", norm(running="replaced"), "replaced"),
    ("batch_norm_mean", norm(running="exchanged"), "weight of the new mean"),
    ("batch_norm_mean", norm(running="added"), "without shrinking"),
    ("batch_norm_variance", norm(var_from=0), "running_var takes the unbiased one"),
    ("batch_norm_variance", norm(running="still"), "not updated"),
    ("batch_norm_variance", norm(running="replaced"), "replaced"),
    ("batch_norm_variance", norm(running="exchanged"), "weight of the new variance"),
    ("batch_norm_variance", norm(running="std"), "standard deviation"),
    ("batch_norm_eval", norm(use="always batch"), "batch's own statistics are used in evaluation"),
    ("batch_norm_eval", norm(running="also eval"), "mean changes in evaluation"),
    ("batch_norm_eval", norm(outside=True), "eps belongs inside"),
    ("batch_norm_eval", norm(affine="none"), "gamma and beta are left out"),
    ("batch_norm_eval", norm(eps_in_eval=False), "eps is not added to running_var"),
    ("change_in_points", changes(lambda a, p: 100 * (p - a).mean()), "sign is wrong"),
    ("change_in_points", changes(lambda a, p: (a - p).mean()), "is a fraction"),
    ("change_in_points", changes(lambda a, p: 100 * (a - p)[0]), "only the first seed"),
    ("change_in_points", changes(lambda a, p: 100 * (a - p)[-1]), "only the last seed"),
    ("change_in_points", changes(lambda a, p: 100 * (a - p).sum()), "added up over the seeds"),
    ("change_in_points", changes(lambda a, p: 100 * (a - p[0]).mean()), "first seed's baseline"),
    ("change_in_points", changes(lambda a, p: 100 * a.mean()), "accuracy itself; subtract"),
    ("change_in_points", changes(lambda a, p: a.mean()), "accuracy itself, as a fraction"),
    ("change_in_points", lambda train, augmentations, seeds: {"a": 1.0}, "expected a dict with one number for each"),
    ("change_in_points", lambda train, augmentations, seeds: train(None, 99), "called with seed 99"),
    ("change_in_points", lambda train, augmentations, seeds: train("a", 3), "none of the augmentations"),
    ("change_in_points", lambda t, a, seeds: changes(lambda a, p: 100 * (a - p).mean())(t, a, range(3)), "seed 0"),
    ("look_alikes", alike(lambda d: d.argmin(1), change_it=False), "nothing is changed"),
    ("look_alikes", both_changed, "both sides are changed"),
    ("look_alikes", alike(lambda d: d.argmax(1)), "farthest"),
    ("look_alikes", alike(lambda d: d.argmin(0)), "turned around"),
    ("look_alikes", lambda change, images, labels: change(images[0]), "takes a batch of images"),
    ("wrong_augmentation", lambda: ("noise", 6), "is not it"),
    ("wrong_augmentation", lambda: ("flip", 7), "does not look most like a 7; look at position 7"),
    ("wrong_augmentation", lambda: ("flip", 4), "does not look most like a 4"),
    ("wrong_augmentation", lambda: "flip", "expected a name and a digit"),
]


@pytest.mark.parametrize(("check", "answer", "message"), MISTAKES)
def test_a_wrong_answer_is_told_its_mistake(check: str, answer: Any, message: str) -> None:
    verdict = getattr(checks, check)(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("check", module.__all__)
def test_every_check_knows_three_mistakes(check: str) -> None:
    assert len({message for name, _, message in MISTAKES if name == check}) >= 3
