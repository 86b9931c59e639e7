"""Each check takes right answers, however written, and names what is wrong with the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvbook import layers
from cvbook.checks import pooling_normalization as checks

AXES = (0, 2, 3)


def depthwise(channels: int, k: int) -> tuple:
    return torch.full((channels, 1, k, k), 1 / k**2), k, channels


def diagonal(channels: int, k: int) -> list:
    return [torch.eye(channels)[:, :, None, None].expand(-1, -1, k, k) / (k * k), (k, k), 1]


@pytest.mark.parametrize("answer", [depthwise, diagonal])
def test_average_pooling_accepts(answer: Any) -> None:
    assert checks.average_pooling(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda c, k: (torch.full((c, c, k, k), 1 / k**2), k, 1), "sums all input channels"),
        (lambda c, k: (torch.full((c, c, k, k), 1 / (c * k**2)), k, 1), "mixes all input channels"),
        (lambda c, k: (torch.full((c, 1, k, k), 1 / k), k, c), "the weights sum to k"),
        (lambda c, k: (torch.ones(c, 1, k, k), k, c), "the sum of the window"),
        (lambda c, k: (torch.full((c, 1, k, k), 1 / k**2), 1, c), "stride 1"),
        (lambda c, k: (torch.full((1, c, k, k), 1 / k**2), k, c), "F.conv2d refuses"),
        (lambda c, k: (torch.full((c, 1, k, k), 1 / k**2), c, k), "stride and groups are swapped"),
        (lambda c, k: torch.ones(c, 1, k, k), "expected three things"),
        (lambda c, k: (torch.zeros(c, 1, k, k), k, c), "everything is zero"),
    ],
)
def test_average_pooling_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.average_pooling(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


RIGHT_MEANS = {"batch": 64, "layer": 32, "instance": 2048, "group of 4 channels": 512}


def test_means_accepts_numbers_and_products() -> None:
    assert checks.means(RIGHT_MEANS).passed
    x = torch.zeros(32, 64, 14, 14)
    counted = {
        "batch": x.mean(AXES).numel(),
        "layer": x.mean((1, 2, 3)).numel(),
        "instance": x.mean((2, 3)).numel(),
        "group of 4 channels": x.view(32, 16, 4, 14, 14).mean((2, 3, 4)).numel(),
    }
    assert checks.means(counted).passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 32}, "one for each image is layer normalization"),
        ({"batch": 64 * 196}, "a convolution treats them alike"),
        ({"layer": 64}, "one for each channel is batch normalization"),
        ({"instance": 64}, "each channel of each"),
        ({"group of 4 channels": 128}, "not of groups"),
        ({"group of 4 channels": 7}, "which axes are averaged away"),
        ({"layer": ...}, "the answer for 'layer' is missing"),
        (dict.fromkeys(RIGHT_MEANS, 0), "batch: not 0"),
    ],
)
def test_means_names_the_mistake(change: dict, message: str) -> None:
    verdict = checks.means(RIGHT_MEANS | change)
    assert verdict.state == "wrong"
    assert message in verdict.message


def test_means_wants_a_dict() -> None:
    assert "got list" in checks.means([64, 32]).message


def with_torch(x, mean, var, training):
    return F.batch_norm(x, mean, var, None, None, training)


def by_hand(x, mean, var, training):
    m, v = mean.clone(), var.clone()
    if training:
        m, v = x.mean(AXES), x.var(AXES, correction=0)
        mean.copy_(0.9 * mean + 0.1 * m)
        var.mul_(0.9).add_(0.1 * x.var(AXES))
    return (x - m.view(-1, 1, 1)) / (v.view(-1, 1, 1) + 1e-5) ** 0.5


@pytest.mark.parametrize("answer", [with_torch, by_hand])
def test_batch_norm_accepts(answer: Any) -> None:
    assert checks.batch_norm(answer).passed


def normalizer(axes=AXES, correction=0, root=True, eps_inside=True, running_correction=1, swap=False, running=True):
    """A batch normalization with mistakes to order."""

    def answer(x, mean, var, training):
        if not training:
            return with_torch(x, mean, var, False)
        m, v = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, correction=correction)
        if running:
            old, new = (0.1, 0.9) if swap else (0.9, 0.1)
            mean.copy_(old * mean + new * x.mean(AXES))
            var.copy_(old * var + new * x.var(AXES, correction=running_correction))
        scale = (v + 1e-5).sqrt() if eps_inside else v.sqrt() + 1e-5
        return (x - m) / (scale if root else v + 1e-5)

    return answer


def evaluates_by_batch(x, mean, var, training):
    y = with_torch(x, mean.clone(), var.clone(), True)
    if training:
        with_torch(x, mean, var, True)
    return y


def trains_by_running(x, mean, var, training):
    return with_torch(x, mean, var, False)


def moves_first(correction):
    def answer(x, mean, var, training):
        if training:
            mean.lerp_(x.mean(AXES), 0.1)
            var.lerp_(x.var(AXES, correction=correction), 0.1)
        return with_torch(x, mean, var, False)

    return answer


def counts_images(x, mean, var, training):
    y = with_torch(x, mean.clone(), var.clone(), training)
    if training:
        mean.lerp_(x.mean(AXES), 0.1)
        var.lerp_(x.var(AXES, correction=0) * len(x) / (len(x) - 1), 0.1)
    return y


def always_moves(x, mean, var, training):
    y = with_torch(x, mean.clone(), var.clone(), training)
    with_torch(x, mean, var, True)
    return y


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (normalizer(axes=(0,)), "every pixel has its own mean"),
        (normalizer(axes=(2, 3)), "normalized by itself"),
        (normalizer(axes=(0, 1, 2, 3)), "keep the channels apart"),
        (normalizer(correction=1), "biased variance"),
        (normalizer(root=False), "standard deviation, not by the variance"),
        (normalizer(eps_inside=False), "eps belongs under the root"),
        (normalizer(running_correction=0), "takes the unbiased variance"),
        (normalizer(swap=True), "weights swapped"),
        (normalizer(running=False), "did not move"),
        (evaluates_by_batch, "in evaluation the running statistics normalize"),
        (trains_by_running, "in training those of the batch do"),
        (moves_first(1), "move first"),
        (moves_first(0), "move first"),
        (counts_images, "the number of images"),
        (always_moves, "evaluation moved the running statistics"),
        (lambda x, mean, var, training: torch.zeros_like(x), "everything is zero"),
    ],
)
def test_batch_norm_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.batch_norm(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def folded(weight, bias, mean, var, gamma, beta, eps):
    s = gamma / (var + eps).sqrt()
    return weight * s[:, None, None, None], (bias - mean) * s + beta


def folded_otherwise(weight, bias, mean, var, gamma, beta, eps):
    s = torch.diag(gamma * (var + eps) ** -0.5)
    return [torch.einsum("ab,bcij->acij", s, weight), s @ bias - s @ mean + beta]


def folded_in_place(weight, bias, mean, var, gamma, beta, eps):
    gamma.div_(var.add_(eps).sqrt_())
    return weight.mul_(gamma.view(-1, 1, 1, 1)), bias.sub_(mean).mul_(gamma).add_(beta)


@pytest.mark.parametrize("answer", [folded, folded_otherwise, folded_in_place])
def test_fold_accepts(answer: Any) -> None:
    assert checks.fold(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda w, b, m, v, g, t, e: folded(w, b, m, v, g, t, 0), "eps is missing"),
        (lambda w, b, m, v, g, t, e: folded(w, b, m, (v + e) ** 2 - e, g, t, e), "the root of var + eps"),
        (lambda w, b, m, v, g, t, e: folded(w, 0 * b, m, v, g, t, e), "old bias is lost"),
        (lambda w, b, m, v, g, t, e: folded(w, b, 0 * m, v, g, t, e), "the mean is not taken away"),
        (lambda w, b, m, v, g, t, e: folded(w, b, m, v, g, 0 * t, e), "beta is missing"),
        (
            lambda w, b, m, v, g, t, e: (folded(w, b, m, v, g, t, e)[0], b - m * g / (v + e).sqrt() + t),
            "passes through the scale too",
        ),
        (lambda w, b, m, v, g, t, e: folded(w, b, m, v, torch.ones_like(g), t, e), "gamma is missing"),
        (
            lambda w, b, m, v, g, t, e: (w * (g / (v + e).sqrt()), folded(w, b, m, v, g, t, e)[1]),
            "multiplies the columns",
        ),
        (
            lambda w, b, m, v, g, t, e: (w, b.copy_(m.zero_().add_(g.zero_()).add_(t.zero_()))),
            "expected",
        ),
        (lambda *a: (a[0].flatten(1), a[1]), "cannot be a weight and a bias"),
        (lambda *a: a[0], "expected two tensors"),
        (lambda *a: (0 * a[0], 0 * a[1]), "everything is zero"),
    ],
)
def test_fold_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.fold(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def reset_and_pass(model: nn.Module, images: torch.Tensor) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    model.train()
    with torch.no_grad():
        model(images)
    model.eval()


def many_passes(model: nn.Module, images: torch.Tensor) -> None:
    model.train()
    for _ in range(20):
        for batch in images.split(50):
            model(batch)
    model.eval()


def sixty_passes(model: nn.Module, images: torch.Tensor) -> None:
    model.train()
    for _ in range(60):
        model(images)
    model.eval()


@pytest.mark.parametrize("answer", [reset_and_pass, many_passes, sixty_passes])
def test_recalibrate_accepts(answer: Any) -> None:
    assert checks.recalibrate(answer).passed


def in_eval(model, images):
    model(images)


def once(model, images):
    model.train()
    model(images)
    model.eval()


def stays_in_train(model, images):
    many_passes(model, images)
    model.train()


def average_without_reset(model, images):
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    once(model, images)


def forgets_everything(model, images):
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
            layer.momentum = None
    once(model, images)


def only_resets(model, images):
    model[0].reset_running_stats()


def learns(model, images):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model.train()
    model(images).sum().backward()
    optimizer.step()
    model.eval()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (in_eval, "in training mode only"),
        (once, "after 1 batch the"),
        (average_without_reset, "forget the old values"),
        (forgets_everything, "erases gamma and beta"),
        (only_resets, "no image passed in training mode"),
        (stays_in_train, "left in training mode"),
        (learns, "the learned parameters changed"),
    ],
)
def test_recalibrate_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.recalibrate(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("name", checks.__all__)
def test_stubs_are_not_attempted(name: str) -> None:
    check = getattr(checks, name)
    assert check(None).state == "not attempted"
    stub = dict.fromkeys(RIGHT_MEANS) if name == "means" else lambda *arguments: ...
    assert check(stub).state == "not attempted"


def test_our_own_layer_passes() -> None:
    def answer(x, mean, var, training):
        ones = torch.ones_like(mean)
        return layers.batch_norm(x, mean, var, ones, 0 * ones, training=training)

    assert checks.batch_norm(answer).passed
