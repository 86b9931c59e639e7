"""Checks of the lesson *What came next*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cvbook.checks.answers import unchanged
from cvbook.checks.verdict import Missing, Wrong, equal, exercise
from cvbook.cost import summary

__all__ = ["excite", "grouped", "quarter", "ratio", "separable"]

NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@exercise("The cost with both multipliers")
def ratio(answer: Callable[[int, int, float, float], float]) -> str:
    """``answer(k, n, alpha, rho)``: a separable layer with both multipliers, relative to the dense one without them."""
    for k, n, alpha, rho in (
        (3, 64, 1.0, 1.0),
        (5, 16, 1.0, 1.0),
        (3, 8, 0.5, 1.0),
        (3, 64, 1.0, 0.5),
        (5, 8, 0.25, 0.75),
    ):

        def share(a: float, b: float, c: float, scale: float = 1.0) -> Tensor:
            return torch.tensor(scale * (a / n + b / c), dtype=torch.float64)  # noqa: B023

        kk, area = k * k, rho * rho
        expected = share(alpha, alpha**2, kk, area)
        mistakes = {
            "this is dense over separable; the question is separable over dense": 1 / expected,
            "alpha squared multiplies both terms; the depthwise part has one kernel for each input channel, and there "
            "are alpha M of these: it shrinks with alpha only": share(alpha**2, alpha**2, kk, area),
            "only the input is thinned; the layer before and this layer both have alpha times their channels, so M and "
            "N both shrink": share(alpha, alpha, kk, area),
            "rho shrinks both sides of the map, so pixels shrink with its square": share(alpha, alpha**2, kk, rho),
            "alpha squared belongs to the pointwise part, where input and output are thinned, alpha alone to the "
            "depthwise part": share(alpha**2, alpha, kk, area),
            "this is alpha squared times rho squared alone, thin against wide; asked is separable against dense": (
                torch.tensor(alpha**2 * area, dtype=torch.float64)
            ),
            "rho is missing": share(alpha, alpha**2, kk),
            "alpha is missing": share(1, 1, kk, area),
            "the window has k times k pixels, not k": share(alpha, alpha**2, k, area),
            "the depthwise part is missing": share(0, alpha**2, kk, area),
            "the pointwise part is missing": share(alpha, 0, kk, area),
            "the dense layer is thinned and shrunk as well; compare with the one without multipliers": share(
                1 / alpha, 1, kk
            ),
        }
        what = f"k = {k}, N = {n}, alpha = {alpha}, rho = {rho}"
        equal(answer(k, n, alpha, rho), expected, mistakes=mistakes, what=what)
    return "right: the pointwise part falls with alpha squared, the depthwise part with alpha, both with rho squared"


@exercise("Depthwise separable")
def separable(answer: Callable[[int, int, int, int], nn.Module]) -> str:
    """``answer(c_in, c_out, k, stride)`` returns two convolutions without bias; the map is padded to keep its size."""
    for m, n, k, stride in ((4, 8, 3, 1), (6, 3, 5, 1), (5, 7, 3, 2)):
        module = answer(m, n, k, stride)
        if module is None or module is ...:
            raise NotImplementedError
        if not isinstance(module, nn.Module):
            raise Wrong(f"expected an nn.Module, got {type(module).__name__}")
        module.eval()
        what = f"c_in = {m}, c_out = {n}, k = {k}, stride = {stride}"
        x = torch.randn(2, m, 9, 12)
        with torch.no_grad():
            shape, still = tuple(module(x.clone()).shape), module(torch.zeros_like(x))
        expected = (2, n, -(-9 // stride), -(-12 // stride))
        if len(shape) == 4 and shape[1] != n:
            raise Wrong(
                f"expected {n} output channels for {what}, got {shape[1]}; the 1x1 convolution makes c_out of them"
            )
        if shape != expected:
            hint = "check the stride" if shape[2:] == (9, 12) else "padding is k // 2"
            raise Wrong(f"expected an output of shape {expected} for {what}, got {shape}; {hint}")
        if any(isinstance(part, NORMALIZATIONS) for part in module.modules()):
            raise Wrong("there is a normalization; leave it out here: two convolutions only")
        _parameters(sum(p.numel() for p in module.parameters()), m, n, k, what)
        if still.any():
            raise Wrong(f"zeros do not give zeros for {what}; two convolutions without bias do")
        _linear(module, x, what)
        _rank_one(module, m, n, k, stride, what)
        pixels = expected[2] * expected[3]
        spent = summary(module, (m, 9, 12)).multiply_adds
        if spent != pixels * (k * k * m + m * n):
            hint = "the stride belongs to the depthwise step: later it throws away what was computed"
            needed = pixels * (k * k * m + m * n)
            raise Wrong(f"expected {needed} multiply-adds for {what}, got {spent}; {hint if stride > 1 else 'count'}")
    return "right: look around in each channel, then mix channels at each pixel"


def _parameters(found: int, m: int, n: int, k: int, what: str) -> None:
    """Name the mistake that a number of parameters betrays."""
    kk = k * k
    right = kk * m + m * n
    betrayed = {
        kk * m * n: "this is the dense convolution",
        kk * m * m + m * n: "the first convolution mixes channels; it needs groups = c_in",
        kk * m + kk * m * n: "the second convolution looks around once more; its kernel is 1x1",
        m * n + kk * n: "the 1x1 convolution comes first; here each *input* channel gets a kernel, then they are mixed",
        right + m + n: "there are biases; use bias=False twice",
        right + m: "the depthwise convolution has a bias",
        right + n: "the pointwise convolution has a bias",
        kk * m: "the 1x1 convolution that mixes channels is missing",
        m * n: "the depthwise convolution is missing",
    }
    if n < m and m % n == 0:
        betrayed[kk * m * m // n + m * n] = "groups = c_out; each *input* channel is a group of its own"
    if found != right:
        why = betrayed.get(found, "k*k for each input channel, and one for each pair of channels")
        raise Wrong(f"expected {right} parameters for {what}, got {found}: {why}")


@torch.no_grad()
def _linear(module: nn.Module, x: Tensor, what: str) -> None:
    y = torch.randn_like(x)
    once, apart = module(x + 2 * y), module(x) + 2 * module(y)
    if not torch.allclose(once, apart, atol=1e-4 * float(apart.abs().max()) + 1e-6):
        raise Wrong(
            f"the module is not linear for {what}: the result for x + 2y is not that for x plus twice that for y; "
            "leave activations out here"
        )


@torch.no_grad()
def _rank_one(module: nn.Module, m: int, n: int, k: int, stride: int, what: str) -> None:
    """From one input channel to all outputs the kernel must be the same picture, only with another factor."""
    if stride > 1:
        return
    side, r = 2 * k + 1, k // 2
    dense = torch.empty(n, m, k, k)
    for channel in range(m):
        x = torch.zeros(1, m, side, side)
        x[0, channel, k, k] = 1
        seen = module(x)[0]  # what each output channel makes of one bright pixel
        dense[:, channel] = seen[:, k - r : k + r + 1, k - r : k + r + 1].flip(1, 2)
        kernels = seen.flatten(1)
        sizes = torch.linalg.svdvals(kernels.double())
        if sizes[0] < 1e-6:
            raise Wrong(f"input channel {channel} has no effect for {what}")
        if sizes[1] > 1e-4 * sizes[0]:
            raise Wrong(
                f"input channel {channel} is seen through different kernels by different outputs for {what}; a "
                "depthwise step has one kernel for each input channel, and every output shares it"
            )
    x = torch.randn(2, m, side, side)
    if not torch.allclose(module(x), F.conv2d(x, dense, padding=r), atol=1e-4):
        raise Wrong(f"at the border the module does something else for {what}; pad with zeros, the default")


@exercise("Convolution in groups")
def grouped(answer: Callable[[Tensor, Tensor, int], Tensor]) -> str:
    """``answer(x, weight, groups)`` equals ``F.conv2d`` with that many groups, padded by k // 2."""
    for c_in, c_out, groups, k in ((4, 6, 2, 3), (6, 9, 3, 5), (4, 8, 4, 1), (3, 5, 1, 3)):
        x, weight = torch.randn(2, c_in, 6, 7), torch.randn(c_out, c_in // groups, k, k)

        def run(x: Tensor, weight: Tensor, groups: int = groups) -> Tensor:
            return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=groups)

        def parts(inputs: list[Tensor], kernels: list[Tensor]) -> list[Tensor]:
            return [run(a, b, 1) for a, b in zip(inputs, kernels, strict=True)]

        blocks, kernels = list(x.chunk(groups, 1)), list(weight.chunk(groups))
        combed = [x[:, g::groups] for g in range(groups)]
        mistakes = {
            "each group takes every g-th channel of x; its channels are neighbors": torch.cat(
                parts(combed, kernels), 1
            ),
            "the outputs of the groups are shuffled; those of the first group come first": torch.stack(
                parts(blocks, kernels), 2
            ).flatten(1, 2),
            "the results of the groups are added; they are laid one behind the other": sum(parts(blocks, kernels)),
            "each group uses every g-th kernel; the first group has the first kernels": torch.cat(
                parts(blocks, [weight[g::groups] for g in range(groups)]), 1
            ),
            "all groups read the first channels of x": torch.cat(parts(blocks[:1] * groups, kernels), 1),
            "all groups use the first kernels": torch.cat(parts(blocks, kernels[:1] * groups), 1),
        }
        what = f"{c_in} channels in, {c_out} out, {groups} groups, {k}x{k} kernels"
        with _OneGroup():
            got = unchanged(answer, x, weight, groups)
        equal(got, run(x, weight), mistakes=mistakes, what=what)
    return "right: groups are convolutions side by side that do not see each other"


class _OneGroup(TorchDispatchMode):
    """Refuses a convolution in groups, whatever the function's name."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default and args[8] > 1:
            raise Wrong(
                f"a convolution with groups={args[8]} was called; cut x and weight, and call F.conv2d with one group"
            )
        return func(*args, **(kwargs or {}))


@exercise("Squeeze and excite")
def excite(answer: Callable[..., Tensor]) -> str:
    """``answer(x, w1, b1, w2, b2)`` scales the channels of x; ``w1`` is ``(S, C)``, ``w2`` ``(C, S)``."""
    for B, C, S in ((2, 4, 3), (3, 6, 2), (1, 3, 3)):
        x = torch.randn(B, C, 4, 5) + torch.randn(C, 1, 1)
        w1, b1, w2, b2 = torch.randn(S, C), torch.randn(S), torch.randn(C, S), torch.randn(C)

        def logits(s: Tensor, middle: Callable[[Tensor], Tensor] = torch.relu) -> Tensor:
            return middle(s @ w1.T + b1) @ w2.T + b2  # noqa: B023

        def scale(gates: Tensor) -> Tensor:
            return x * gates.expand(B, C)[:, :, None, None]  # noqa: B023

        mean = x.mean((2, 3))
        z = logits(mean)
        pixels = logits(x.movedim(1, -1)).movedim(-1, 1)
        first, second = mean @ w1.T, torch.relu(mean @ w1.T + b1) @ w2.T
        mistakes = {
            "both biases are missing": scale((first.relu() @ w2.T).sigmoid()),
            "b1 is missing": scale((first.relu() @ w2.T + b2).sigmoid()),
            "b2 is missing": scale(second.sigmoid()),
            "the ReLU between the two layers is missing": scale(logits(mean, lambda t: t).sigmoid()),
            "softmax makes the channels compete; a sigmoid opens each gate by itself": scale(z.softmax(1)),
            "the sigmoid is missing": scale(z),
            "squeeze takes the mean over the positions, not the sum": scale(logits(x.sum((2, 3))).sigmoid()),
            "squeeze takes the mean over the positions, not the maximum": scale(logits(x.amax((2, 3))).sigmoid()),
            "all images share one gate; each image has its own": scale(logits(mean.mean(0, keepdim=True)).sigmoid()),
            "each pixel has its own gate: the squeeze is missing": x * pixels.sigmoid(),
            "these are the gates, (B, C); multiply x by them": z.sigmoid(),
            "these are the gates, (B, C, 1, 1); multiply x by them": z.sigmoid()[:, :, None, None],
            "the gates are added; they multiply": x + z.sigmoid()[:, :, None, None],
            "x is added once more; a residual connection is the business of the block around": x + scale(z.sigmoid()),
        }
        what = f"x of shape {tuple(x.shape)} and a squeeze to {S}"
        got = unchanged(answer, x, w1, b1, w2, b2)
        equal(got, scale(z.sigmoid()), mistakes=mistakes, what=what)
    return "right: one number for each channel of each image, computed from all channels"


@exercise("A quarter of the cost")
def quarter(
    full: Callable[[], tuple[nn.Module, int]],
    thin: Callable[[], tuple[nn.Module, int]],
    small: Callable[[], tuple[nn.Module, int]],
) -> str:
    """Each returns (network, side of its grey images); ``thin`` and ``small`` cost a quarter of ``full``."""
    base, side = full()
    whole = summary(base, (1, side, side))
    for name, answer in (("thin", thin), ("small", small)):
        got: Any = answer()
        if got is None or got is ...:
            raise Missing(f"{name} is still empty: return a network and the side of its images")
        if not isinstance(got, (tuple, list)) or len(got) != 2 or not isinstance(got[0], nn.Module):
            kind = type(got[0] if isinstance(got, (tuple, list)) and len(got) == 1 else got).__name__
            raise Wrong(f"expected two things from {name}, a network and the side of its images, got {kind}")
        model, mine = got
        cost = summary(model, (1, mine, mine))
        if name == "thin" and mine != side:
            raise Wrong(f"thin sees images of side {mine}; alpha changes channels, the images keep their side {side}")
        if name == "small" and cost.parameters != whole.parameters:
            raise Wrong(
                f"small has {cost.parameters} parameters and full {whole.parameters}; rho changes the images, not the "
                "network"
            )
        if any(_dense(part) for part in model.modules()):
            raise Wrong(f"{name} has a dense convolution; keep separable=True, as in full")
        if name == "thin" and cost.parameters >= whole.parameters:
            raise Wrong(
                f"thin has {cost.parameters} parameters and full {whole.parameters}; give it fewer channels: alpha < 1"
            )
        share = cost.multiply_adds / whole.multiply_adds
        if not 0.22 <= share <= 0.31:
            why = "it falls with the square: of alpha, roughly, and of rho"
            raise Wrong(f"{name} costs {share:.2f} of the multiply-adds of full, expected 0.22 to 0.31; {why}")
    return "right: two networks of equal cost; now train both"


def _dense(part: nn.Module) -> bool:
    """Looks around and mixes channels at once; the first layer, which has one input channel, does not."""
    return isinstance(part, nn.Conv2d) and part.groups == 1 and part.in_channels > 1 and part.kernel_size != (1, 1)
