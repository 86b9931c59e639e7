"""Checks of the lesson *VGG and Inception*."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.checks.verdict import Missing, Wrong, equal, exercise, finite, mapping

__all__ = ["auxiliary_loss", "break_even", "inception", "initialize", "stacks"]

Pair = tuple[int, int]


@exercise("Stacks of 3x3")
def stacks(answer: dict[str, float]) -> str:
    """``answer``: field of four 3x3 layers, layers that see 15x15, and the percent of weights that those save."""
    expected = {"field of four": 9.0, "layers for 15x15": 7.0, "saved in %": 72.0}
    answers = mapping(answer, expected)
    traps: dict[str, dict[float, str]] = {
        "field of four": {
            12: "that adds up the kernels; neighbors overlap, so each layer after the first adds 2 pixels",
            8: "each layer adds 2 pixels, and the pixel itself is there from the start",
            81: "that is the area; the side is asked",
        },
        "layers for 15x15": {
            5: "that divides 15 by 3; each layer adds 2 pixels to the one in the middle",
            8: "the first pixel is there without any layer: solve 1 + 2 n = 15",
        },
        "saved in %": {
            28.0: "that is what is left; how much is saved?",
            0.72: "give percent, not a fraction",
            257.1: "that is how many percent more the single kernel has; take its weights as the whole",
        },
    }
    for key, number in expected.items():
        given = finite(answers[key], key)
        if not abs(given - number) <= (0.1 if key == "saved in %" else 0):
            near = [words for value, words in traps[key].items() if abs(given - value) <= 0.005 * value + 0.001]
            raise Wrong(f"{key}: {near[0] if near else f'not {given:g}; draw the layers in one dimension and count'}")
    return "right: the stack grows linearly with the side, the single kernel with its square"


@exercise("An Inception module")
def inception(answer: Callable[[int, int, Pair, Pair, int], nn.Module]) -> str:
    """``answer(c_in, one, three, five, pool)`` builds the module of figure 2b, with biases, a ReLU after each conv."""
    for c_in, one, three, five, pool in ((6, 3, (4, 5), (2, 7), 8), (5, 2, (3, 8), (4, 7), 6)):
        model = answer(c_in, one, three, five, pool)
        if model is None or model is ...:
            raise NotImplementedError
        if not isinstance(model, nn.Module):
            raise Wrong(f"expected a module, got {type(model).__name__}")
        what = f"({c_in}, {one}, {three}, {five}, {pool})"
        y = model(torch.randn(2, c_in, 9, 11))
        widths = [one, three[1], five[1], pool]
        if tuple(y.shape) != (2, sum(widths), 9, 11):
            hints = {
                sum(widths[:3]): "the pooling branch is missing",
                sum(widths[:3]) + c_in: "the pooling branch has no 1x1 convolution after the pooling",
                max(widths): "the branches are summed; concatenate them along the channels",
            }
            same_size = y.ndim == 4 and y.shape[2:] == (9, 11)
            hint = hints.get(y.shape[1], "how many channels has each branch?") if same_size else "keep the map's size"
            raise Wrong(f"for {what}, expected shape (2, {sum(widths)}, 9, 11), got {tuple(y.shape)}: {hint}")
        _count(model, c_in, one, three, five, pool, what)
        x = torch.randn(2, c_in, 9, 11)
        shapes = [(one, c_in, 1), (three[0], c_in, 1), (three[1], three[0], 3)]
        shapes += [(five[0], c_in, 1), (five[1], five[0], 5), (pool, c_in, 1)]
        drawn = _draw(model, shapes, what)
        with torch.no_grad():
            got = model(x)
        mistakes = {words: _inception(x, drawn, **kind) for words, kind in MODULE_MISTAKES}
        equal(got, _inception(x, drawn), mistakes=mistakes, what=what)
    return "right: four branches, one size, concatenated"


def _count(model: nn.Module, c: int, one: int, three: Pair, five: Pair, pool: int, what: str) -> None:
    def conv(c_in: int, out: int, k: int) -> int:
        return out * (c_in * k * k + 1)

    def module(k: int = 5, bottleneck: bool = True) -> int:
        if bottleneck:
            middle = conv(c, three[0], 1) + conv(*three, 3) + conv(c, five[0], 1) + conv(*five, k)
        else:
            middle = conv(c, three[1], 3) + conv(c, five[1], k)
        return conv(c, one, 1) + middle + conv(c, pool, 1)

    got = sum(p.numel() for p in model.parameters())
    biases = one + sum(three) + sum(five) + pool
    known = {
        module(k=3): "the third branch has a 3x3 kernel; it should be 5x5",
        module() - conv(c, pool, 1): "the pooling branch has no 1x1 convolution",
        module() - biases: "the convolutions have no biases",
        module() + 2 * biases: "there is batch normalization; leave it out here",
        module() + biases: "there is batch normalization in place of the biases; leave it out here",
        module(bottleneck=False): "the 1x1 convolutions before 3x3 and 5x5 are missing",
    }
    if got != module():
        how = known.get(got, "count branch by branch")
        raise Wrong(f"for {what}, expected {module()} parameters, got {got}: {how}")


def _draw(model: nn.Module, shapes: list[tuple[int, int, int]], what: str) -> list[tuple[Tensor, Tensor]]:
    """Fill the six convolutions with random numbers of both signs; their widths differ, so shapes tell them apart."""
    found = {tuple(p.shape): p for p in model.parameters()}
    drawn = []
    for out, c, k in shapes:
        if (out, c, k, k) not in found or (out,) not in found:
            raise Wrong(f"for {what}, expected a convolution {c} -> {out} with a {k}x{k} kernel and a bias, found none")
        pair = torch.randn(out, c, k, k) / (c * k * k) ** 0.5, 0.3 * torch.randn(out)
        with torch.no_grad():
            found[out, c, k, k].copy_(pair[0])
            found[out,].copy_(pair[1])
        drawn.append(pair)
    return drawn


def _inception(
    x: Tensor, drawn: list[tuple[Tensor, Tensor]], *, relu: Sequence[int] = range(6), order: Sequence[int] = range(4),
    pool: Callable[[Tensor], Tensor] = lambda x: F.max_pool2d(x, 3, 1, 1), late: bool = False,
    act: Callable[[Tensor], Tensor] = F.relu,
) -> Tensor:  # fmt: skip
    """The module as a function; the switches are the mistakes."""

    def conv(i: int, x: Tensor) -> Tensor:
        y = F.conv2d(x, *drawn[i], padding=drawn[i][0].shape[-1] // 2)
        return act(y) if i in relu else y

    last = pool(conv(5, x)) if late else conv(5, pool(x))
    branches = [conv(0, x), conv(2, conv(1, x)), conv(4, conv(3, x)), last]
    return torch.cat([branches[i] for i in order], 1)


MODULE_MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("the ReLUs are missing: one follows each convolution", {"relu": ()}),
    ("no ReLU follows the 1x1 convolutions before 3x3 and 5x5; one follows each convolution", {"relu": (0, 2, 4, 5)}),
    ("no ReLU follows the 1x1 convolution before the 3x3", {"relu": (0, 2, 3, 4, 5)}),
    ("no ReLU follows the 1x1 convolution before the 5x5", {"relu": (0, 1, 2, 4, 5)}),
    ("a ReLU follows the bottlenecks only; one follows each convolution", {"relu": (1, 3)}),
    ("no ReLU follows the convolution of the pooling branch", {"relu": (0, 1, 2, 3, 4)}),
    ("the 1x1 convolution of the last branch stands before the pooling; it comes after", {"late": True}),
    ("the last branch takes an average; take the maximum of 3x3 pixels", {"pool": lambda x: F.avg_pool2d(x, 3, 1, 1)}),
    ("the last branch does not pool over 3x3 pixels around each place", {"pool": lambda x: x}),
    ("the last branch pools over 5x5 pixels; take 3x3", {"pool": lambda x: F.max_pool2d(x, 5, 1, 2)}),
    ("the activation is a sigmoid; take the ReLU", {"act": torch.sigmoid}),
    *(
        ("the branches are in another order: 1x1, 3x3, 5x5, pooling" + " " * i, {"order": order})
        for i, order in enumerate(itertools.permutations(range(4)))
        if i
    ),
]


@exercise("When does a bottleneck pay?")
def break_even(answer: Callable[[int, int, int], int]) -> str:
    """``answer(c, out, k)``: the largest width r with which 1x1 and k x k need fewer multiply-adds than k x k alone."""
    cases = [(192, 32, 5), (192, 128, 3), (64, 64, 3), (10, 3, 7), (18, 2, 3)]  # the last: exactly 9 at equal cost
    cases += [(int(c), int(out), int(k)) for c, out, k in torch.randint(2, 60, (20, 3)) if k % 2 and k < 12]
    for c, out, k in cases:
        got = answer(c, out, k)
        if got is None or got is ...:
            raise NotImplementedError
        direct = k * k * c * out

        def pays(r: int, c: int = c, out: int = out, k: int = k, direct: int = direct) -> bool:
            return r * (c + k * k * out) < direct

        expected = max(r for r in range(direct) if pays(r)) if direct < 5000 else (direct - 1) // (c + k * k * out)
        given = finite(got, f"c = {c}, out = {out}, k = {k}")
        if given != expected:
            quotient = direct / (c + k * k * out)
            known = {
                round(quotient): "round down: r is the largest whole number that still saves",
                math.ceil(quotient): "round down: r is the largest whole number that still saves",
                direct // (out + k * k * c): "c and out are swapped: the 1x1 convolution goes from c to r channels",
                direct // (k * k * out): "the 1x1 convolution costs something, too: c times r at each pixel",
                direct // (k * k * (c + out)): "the first kernel is 1x1, so it costs c times r, not k*k times that",
                (k * c * out - 1) // (c + k * out): "a k x k kernel has k*k pixels, not k",
                quotient: "at this r both cost the same; fewer multiply-adds are asked",
            }
            how = known.get(given, "write both costs for one pixel of the map")
            raise Wrong(f"for c = {c}, out = {out}, k = {k}: not {given:g}; {how}")
    return "right: r < k²·c·out / (c + k²·out)"


@exercise("The loss with auxiliary classifiers")
def auxiliary_loss(answer: Callable[[Tensor | tuple[Tensor, Tensor, Tensor], Tensor], Tensor]) -> str:
    """``answer(outputs, labels)``: cross-entropy of the logits, plus 0.3 times that of both auxiliary ones, if any."""
    for n, classes in ((4, 3), (7, 5)):
        three = tuple((2 * torch.randn(n, classes)).requires_grad_() for _ in range(3))
        labels = torch.randint(classes, (n,))
        main, a, b = (F.cross_entropy(logits, labels) for logits in three)
        given = tuple(t.detach().clone().requires_grad_() for t in three)
        got = answer(given, labels.clone())  # type: ignore[arg-type]
        mistakes = {
            "the auxiliary losses are left out": main,
            "the auxiliary losses have weight 1; the paper takes 0.3": main + a + b,
            "the second auxiliary classifier is left out": main + 0.3 * a,
            "the first auxiliary classifier is left out": main + 0.3 * b,
            "0.3 multiplies the mean of the two; it multiplies each": main + 0.15 * (a + b),
            "the weights are divided among the losses; the main one keeps 1": 0.4 * main + 0.3 * (a + b),
            "0.3 multiplies all three": 0.3 * (main + a + b),
            "the logits are added before the loss; each classifier has a loss of its own": F.cross_entropy(
                three[0] + 0.3 * (three[1] + three[2]), labels
            ),
            "the softmax is taken twice; F.cross_entropy expects logits": F.cross_entropy(three[0].softmax(1), labels)
            + 0.3 * sum(F.cross_entropy(logits.softmax(1), labels) for logits in three[1:]),
        }
        loss = main + 0.3 * (a + b)
        equal(got, loss.detach(), mistakes=mistakes, what=f"three outputs, {n} images")
        _trains(got, given, torch.autograd.grad(loss, three))
        try:
            alone = answer(three[0].clone(), labels.clone())
        except Exception as error:
            raise Wrong(
                "stops when the network returns one tensor, as in eval mode; ask isinstance(outputs, tuple) first"
            ) from error
        equal(alone, main.detach(), mistakes={}, what="one tensor of logits, as in eval mode")
    return "right: three losses in training, one afterwards"


def _trains(loss: object, outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Does the loss bring the right gradient to all outputs?"""
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise Wrong(
            "the value is right, but no gradient comes out of it: return the tensor, without .item() or .detach()"
        )
    found = torch.autograd.grad(loss, outputs, allow_unused=True)
    for name, got, gradient in zip(("the logits", "aux1", "aux2"), found, expected, strict=True):
        if got is None or not torch.allclose(got, gradient, atol=1e-5):
            raise Wrong(f"the value is right, but {name} gets no gradient, or a wrong one; nothing may be detached")


@exercise("Weights for a deep plain network")
def initialize(answer: Callable[[nn.Conv2d], object]) -> str:
    """``answer(layer)`` draws the weights of a convolution in place, so that deep ReLU stacks keep their scale."""
    widths = [16, 48, 12, 64, 16, 48, 24, 12, 64, 32, 16, 48]
    kernels = (3, 1, 3, 5, 3, 3, 1, 3, 5, 3, 3)
    convs = [nn.Conv2d(a, b, k, padding=k // 2) for (a, b), k in zip(itertools.pairwise(widths), kernels, strict=True)]
    before = [conv.weight.detach().clone() for conv in convs]
    for conv in convs:
        answer(conv)
    if all(torch.equal(conv.weight, old) for conv, old in zip(convs, before, strict=True)):
        raise Missing("nothing to check yet: the weights did not change; draw them in place, with nn.init")
    flat = [conv.weight.detach().flatten() for conv in convs]
    if not all(w.isfinite().all() for w in flat):
        raise Wrong("the weights hold NaN or infinite numbers")
    if any(w.std() < 1e-8 for w in flat):
        raise Wrong("all weights of a layer are equal: all its kernels would learn the same; draw them at random")
    again = [nn.Conv2d(16, 48, 3) for _ in range(2)]
    for conv in again:
        answer(conv)
    if torch.equal(again[0].weight, again[1].weight):
        raise Wrong("two layers of the same shape get the same weights; draw them at random")
    if any(w.mean().abs() > 0.5 * w.std() for w in flat if w.numel() > 500):
        raise Wrong("the mean of the weights is not near 0, so all maps of a layer come out alike; draw both signs")
    sizes = [(conv.in_channels * k * k, conv.out_channels * k * k) for conv, k in zip(convs, kernels, strict=True)]
    stds = [w.std().item() for w in flat]
    known = {
        "the standard deviation is the same for all layers; it has to fall with the number of inputs": [stds[0]] * 11,
        "1 / fan_in keeps the scale without ReLU; a ReLU halves the mean square": [i**-0.5 for i, _ in sizes],
        "2 / (fan_in + fan_out) is Glorot's, made for units that are symmetric around 0": [
            (2 / (i + o)) ** 0.5 for i, o in sizes
        ],
        "this counts the outputs (fan_out); forward, the sum runs over the inputs (fan_in)": [
            (2 / o) ** 0.5 for _, o in sizes
        ],
        "2 / fan_in is the *variance*; the standard deviation is its root": [2 / i for i, _ in sizes],
    }
    for words, expected in known.items():
        if all(math.isclose(a, b, rel_tol=0.12) for a, b in zip(stds, expected, strict=True)):
            raise Wrong(words)
    with torch.no_grad():
        x = torch.randn(4, widths[0], 24, 24).relu()
        first, y = x.square().mean(), x
        for conv, k in zip(convs, kernels, strict=True):
            y = F.conv2d(F.pad(y, [k // 2] * 4, mode="reflect"), conv.weight).relu()
        growth = (y.square().mean() / first).sqrt().item()
    if not 0.2 < growth < 5:
        raise Wrong(
            f"after 11 layers the numbers are {growth:.2g} times as large as before; they should keep their scale"
        )
    if any(conv.bias is None or not torch.equal(conv.bias, torch.zeros_like(conv.bias)) for conv in convs):
        raise Wrong("set the biases to zero, in place; as torch draws them, they shift what the layers pass on")
    return "right: after 11 layers of different sizes the numbers have their scale (He et al. 2015)"
