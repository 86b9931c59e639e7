"""Checks of the lesson *Pooling and normalization*."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.checks.verdict import Missing, Wrong, equal, exercise

__all__ = ["average_pooling", "batch_norm", "fold", "means", "recalibrate"]


@exercise("Average pooling is a convolution")
def average_pooling(answer: Callable[[int, int], tuple[Tensor, int, int]]) -> str:
    """``answer(channels, k)`` returns (weight, stride, groups) that make ``F.conv2d`` a k x k average pooling."""
    for channels, k in ((3, 2), (4, 3), (1, 5)):
        got = answer(channels, k)
        if got is None or got is ...:
            raise NotImplementedError
        if not isinstance(got, (tuple, list)) or len(got) != 3:
            raise Wrong("expected three things: the weight, the stride and the groups")
        weight, stride, groups = got
        if (stride, groups) == (channels, k):
            raise Wrong("stride and groups are swapped; return weight, stride, groups in this order")
        x = torch.rand(2, channels, 12, 15)
        try:
            y = F.conv2d(x, torch.as_tensor(weight).float(), stride=stride, groups=groups)
        except (RuntimeError, TypeError) as error:
            raise Wrong(f"F.conv2d refuses this for {channels} channels: {str(error).splitlines()[0]}") from error
        pooled = F.avg_pool2d(x, k)
        mixed = pooled.mean(1, keepdim=True).expand_as(pooled)
        mistakes = {
            "each output channel mixes all input channels; give each channel its own group": mixed,
            "each output channel sums all input channels; give each channel its own group": mixed * channels,
            "the weights sum to k; a k x k window has k*k numbers": pooled * k,
            "the weights are 1: this is the sum of the window, not its mean": pooled * k * k,
            "the windows move by one pixel (stride 1); those of pooling move by k": F.avg_pool2d(x, k, stride=1),
        }
        equal(y, pooled, mistakes=mistakes, what=f"{channels} channels and k = {k}")
    return "right: weight 1/k², stride k, and no channel looks at another"


@exercise("Count the means")
def means(answer: dict[str, int]) -> str:
    """``answer`` names, for a tensor (32, 64, 14, 14), how many means each normalization computes."""
    expected = {"batch": 64, "layer": 32, "instance": 32 * 64, "group of 4 channels": 32 * 16}
    traps = {
        ("batch", 32): "one for each image is layer normalization; batch normalization keeps the channels apart",
        ("batch", 64 * 14 * 14): "all positions of a channel share one mean: a convolution treats them alike",
        ("batch", 1): "channels are kept apart; only images and positions share a mean",
        ("layer", 64): "one for each channel is batch normalization; layer normalization keeps the images apart",
        ("layer", 32 * 14 * 14): "for images, layer normalization averages over the positions too",
        ("instance", 64): "each channel of each *image* has its own mean",
        ("group of 4 channels", 32 * 4): "4 is the number of channels in a group, not of groups",
        ("group of 4 channels", 16): "the groups of each image are apart: no image sees another",
    }
    if not isinstance(answer, dict):
        raise Wrong(f"expected a dict with the keys {', '.join(expected)}, got {type(answer).__name__}")
    if all(answer.get(key) in (None, ...) for key in expected):
        raise NotImplementedError
    for key, number in expected.items():
        if key not in answer or answer[key] in (None, ...):
            raise Wrong(f"the answer for {key!r} is missing")
        if answer[key] != number:
            raise Wrong(f"{key}: {traps.get((key, answer[key]), f'not {answer[key]}; which axes are averaged away?')}")
    return "right: what is not averaged away is counted"


@exercise("Batch normalization")
def batch_norm(answer: Callable[[Tensor, Tensor, Tensor, bool], Tensor]) -> str:
    """``answer(x, running_mean, running_var, training)`` normalizes, and in training moves both statistics in place."""
    for shape, scale in (((2, 3, 4, 5), 2.0), ((2, 1, 1, 1), 2.0), ((8, 4, 2, 2), 0.01)):
        x = scale * (torch.randn(shape) + 1)
        start = torch.rand(2, shape[1]) + 0.5
        for training in (True, False):
            (mean, var), (right_mean, right_var) = start.clone(), start.clone()
            got = answer(x.clone(), mean, var, training)
            expected = F.batch_norm(x, right_mean, right_var, None, None, training)
            what = f"x of shape {shape} {'in training' if training else 'in evaluation'}"
            equal(got, expected, mistakes=_outputs(x, start, training), what=what)
            _statistics(x, start, (mean, var), (right_mean, right_var), training, what)
    return "right: batch statistics and the biased variance in training, running ones afterwards"


def _outputs(x: Tensor, start: Tensor, training: bool) -> dict[str, Tensor]:
    """What a wrong answer returns, by mistake."""
    axes = (0, 2, 3)
    m, v = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, correction=0)
    right = (x - m) / (v + 1e-5).sqrt()
    if not training:
        return {"in evaluation the running statistics normalize, not those of the batch": right}
    running = F.batch_norm(x, start[0].clone(), start[1].clone(), None, None, False)
    per_pixel = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    per_image = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    unbiased = (x - m) / (x.var(axes, keepdim=True) + 1e-5).sqrt()
    first = "the running statistics move first and then normalize; in training those of the batch normalize"
    moved_mean = 0.9 * start[0] + 0.1 * m.flatten()
    moved = [
        F.batch_norm(x, moved_mean, 0.9 * start[1] + 0.1 * variance, None, None, False)
        for variance in (x.var(axes), v.flatten())
    ]
    mistakes = {
        "every pixel has its own mean and variance; a channel has one of each, over images and positions": per_pixel,
        "the running statistics normalize; in training those of the batch do": running,
        first: moved[0],
        first + " (and the unbiased variance is remembered)": moved[1],
        "each image is normalized by itself; the statistics go over the whole batch": per_image,
        "all channels share one mean; keep the channels apart": (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt(),
        "normalize with the biased variance (divide by n, not n - 1)": unbiased,
        "divide by the standard deviation, not by the variance": (x - m) / (v + 1e-5),
        "eps belongs under the root, added to the variance": (x - m) / (v.sqrt() + 1e-5),
    }
    return mistakes


def _statistics(x, start, got, right, training: bool, what: str) -> None:
    """The running statistics after the call."""
    axes = (0, 2, 3)
    m, v = x.mean(axes), x.var(axes, correction=0)
    if not training:
        if not (torch.allclose(got[0], start[0]) and torch.allclose(got[1], start[1])):
            raise Wrong("evaluation moved the running statistics; only training may")
        return
    if torch.allclose(got[0], start[0]) and torch.allclose(got[1], start[1]):
        raise Wrong("the running statistics did not move; change them in place, for example running_mean.mul_(0.9)")
    name = "the running mean: weights swapped; nine tenths stay, one tenth is new"
    equal(got[0], right[0], mistakes={name: lambda: 0.1 * start[0] + 0.9 * m}, what=f"the running mean, {what}")
    biased = "the running variance takes the unbiased variance (divide by n - 1)"
    images = "n counts all numbers of a channel, images times positions; you took the number of images"
    mistakes: dict[str, Callable[[], object]] = {
        biased: lambda: 0.9 * start[1] + 0.1 * v,
        images: lambda: 0.9 * start[1] + 0.1 * v * len(x) / (len(x) - 1),
        "the running variance: weights swapped; nine tenths stay, one tenth is new": lambda: (
            0.1 * start[1] + 0.9 * x.var(axes)
        ),
    }
    equal(got[1], right[1], mistakes=mistakes, what=f"the running variance, {what}")


@exercise("Fold it away")
def fold(answer: Callable[..., tuple[Tensor, Tensor]]) -> str:
    """``answer(weight, bias, mean, var, gamma, beta, eps)`` gives the convolution that also does the normalization."""
    for c_in, c_out, k in ((2, 3, 3), (3, 4, 3), (2, 2, 1)):  # with c_out = k a scale without view runs, and is wrong
        weight, bias = torch.randn(c_out, c_in, k, k), torch.randn(c_out)
        mean, var, gamma, beta = torch.randn(c_out), torch.rand(c_out) + 0.2, torch.randn(c_out), torch.randn(c_out)
        eps, x = 0.1, torch.randn(2, c_in, 6, 6)
        got = answer(*(tensor.clone() for tensor in (weight, bias, mean, var, gamma, beta)), eps)
        if got is None or got is ...:
            raise NotImplementedError
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            raise Wrong("expected two tensors: the new weight and the new bias")

        s, no_eps, no_root = gamma / (var + eps).sqrt(), gamma / var.sqrt(), gamma / (var + eps)
        no_gamma = 1 / (var + eps).sqrt()
        pairs = {
            "eps is missing under the root": (no_eps, (bias - mean) * no_eps + beta),
            "divide by the root of var + eps, not by var + eps": (no_root, (bias - mean) * no_root + beta),
            "the convolution's old bias is lost": (s, beta - mean * s),
            "the mean is not taken away": (s, bias * s + beta),
            "the old bias passes through the scale too": (s, bias - mean * s + beta),
            "beta is missing": (s, (bias - mean) * s),
            "gamma is missing": (no_gamma, (bias - mean) * no_gamma + beta),
        }
        mistakes = {key: F.conv2d(x, weight * a.view(-1, 1, 1, 1), b) for key, (a, b) in pairs.items()}
        if c_out == k:
            key = "the scale multiplies the columns of the kernel; one for each output channel has shape (-1, 1, 1, 1)"
            mistakes[key] = F.conv2d(x, weight * s, (bias - mean) * s + beta)
        try:
            y = F.conv2d(x, torch.as_tensor(got[0]).float(), torch.as_tensor(got[1]).float())
        except (RuntimeError, TypeError) as error:
            raise Wrong(f"these cannot be a weight and a bias: {str(error).splitlines()[0]}") from error
        expected = F.batch_norm(F.conv2d(x, weight, bias), mean, var, gamma, beta, False, eps=eps)
        equal(y, expected, mistakes=mistakes, what=f"{c_in} to {c_out} channels, {k}x{k} kernels")
    return "right: in evaluation batch normalization costs nothing"


@exercise("Repair the statistics")
def recalibrate(answer: Callable[[nn.Module, Tensor], None]) -> str:
    """``answer(model, images)`` makes the running statistics those of the images, and leaves ``eval`` mode on."""
    images = 2 * torch.randn(600, 1, 4, 4) + 5
    norm = nn.BatchNorm2d(1)
    model = nn.Sequential(norm, nn.Flatten(), nn.Linear(16, 2))
    spoiled = {"running_mean": -40.0, "running_var": 100.0, "weight": 0.5, "bias": 2.0}
    norm.load_state_dict(
        {name: torch.tensor([value]) for name, value in spoiled.items()} | {"num_batches_tracked": torch.tensor(500)}
    )
    calls: list[bool] = []
    norm.register_forward_hook(lambda layer, *_: calls.append(layer.training))
    before = [p.detach().clone() for p in model.parameters()]
    model.eval()
    answer(model, images.clone())
    mean, var = (norm.get_buffer(name).item() for name in ("running_mean", "running_var"))
    batches = sum(calls)
    if not calls and mean == -40.0:
        raise Missing("nothing to check yet: no image passed through the model")
    if not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)):
        raise Wrong(
            "the learned parameters changed; only the running statistics should (reset_parameters() erases gamma and "
            "beta too, reset_running_stats() does not)"
        )
    if not batches:
        raise Wrong("no image passed in training mode, and statistics are measured in training mode only")
    if model.training or norm.training:
        raise Wrong("the model is left in training mode, where the next prediction pollutes it again; end with eval()")
    if abs(mean - 5) > 0.3 or abs(var - 4) > 0.6:
        raise Wrong(
            f"after {batches} batch{'' if batches == 1 else 'es'} the running mean is {mean:.1f} and the variance "
            f"{var:.1f}, the images have 5.0 and 4.0: a batch moves them by a tenth only; forget the old values first "
            "and let all batches count alike"
        )
    return "right: statistics are not learned, they are measured, and can be measured again"
