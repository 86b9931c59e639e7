"""Checks of the lesson *LeNet-5 and AlexNet*."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.checks.verdict import Wrong, equal, exercise, finite, mapping

__all__ = ["any_size", "costs", "hybrid", "one_tower", "partial_convolution"]

Layer = tuple[object, ...]


@exercise("AlexNet in one tower")
def one_tower(answer: dict[str, float]) -> str:
    """``answer`` gives parameters of three convolutions without groups, and their share of all multiply-adds in %."""
    expected = {"conv 2": 614_656, "conv 4": 1_327_488, "conv 5": 884_992, "share": 94.84}
    answers = mapping(answer, expected)
    traps: dict[str, dict[float, str]] = {
        "conv 2": {
            307_456: "these are the parameters with two groups",
            614_400: "these are the weights; add one bias for each output channel",
            307_200: "these are the weights with two groups",
        },
        "conv 4": {
            663_936: "these are the parameters with two groups",
            1_327_104: "these are the weights; add one bias for each output channel",
            663_552: "these are the weights with two groups",
        },
        "conv 5": {
            442_624: "these are the parameters with two groups",
            884_736: "these are the weights; add one bias for each output channel",
            442_368: "these are the weights with two groups",
        },
        "share": {
            91.9: "this is the share with two groups",
            97.3: "a multiply-add of a convolution counts twice, one of an FC layer once",
            90.2: "a multiply-add of an FC layer counts twice, one of a convolution once",
            95.3: "your first map has 54 x 54 numbers: pad by 2, or take images of 227 x 227",
        },
    }
    for key, number in expected.items():
        given, share = finite(answers[key], key), key == "share"
        if share and 0 < given < 1:
            raise Wrong(f"share: give percent, not a fraction: {100 * given:g} instead of {given:g}")
        if abs(given - number) <= 0.1 * share or (share and given == round(number)):
            continue
        near = [words for value, words in traps[key].items() if abs(given - value) <= 0.35 * share]
        how = "how many numbers does one kernel have, and how many kernels are there?"
        if share:
            how = "add up the multiply-adds of the five convolutions and of the three FC layers first, to one decimal"
        raise Wrong(f"{key}: {near[0] if near else f'not {given:.12g}; {how}'}")
    return "right: the towers save half of three convolutions, and hardly change where the work is"


@exercise("What a network costs")
def costs(answer: Callable[[Sequence[Layer], int, int], Sequence[Sequence[int]]]) -> str:
    """``answer(layers, channels, side)`` returns a pair (parameters, multiply-adds) for each layer."""
    draw = torch.Generator().manual_seed(int(torch.randint(1 << 30, ())))

    def pick(*choices: int) -> int:
        return choices[int(torch.randint(len(choices), (), generator=draw))]

    for trial in range(6):
        channels, side, groups = 3, pick(33, 40, 47), (1 if trial == 0 else 2)
        layers: list[Layer] = [
            ("conv", 4 * pick(2, 3, 5), pick(3, 5, 7), pick(2, 3), pick(0, 1, 2), 1),
            ("pool", 3, 2),
            ("conv", 4 * pick(2, 3, 5), pick(3, 5), 1, pick(1, 2), groups),
            ("fc", pick(20, 33)),
            ("fc", 10),
        ]
        got = answer(list(layers), channels, side)
        if got is None or got is ...:
            raise NotImplementedError
        expected = torch.tensor(_costs(layers, channels, side))
        known = {name: torch.tensor(_costs(layers, channels, side, kind)) for kind, name in MISTAKES.items()}
        what = f"layers {layers} on {channels} channels of {side}x{side}"
        exact = _first_difference(got, expected, layers, f"{channels} channels of {side}x{side}")
        mistakes = known | ({exact: got} if exact else {})
        equal(got, expected, mistakes=mistakes, what=what)
        if exact:
            raise Wrong(exact)
    return "right: parameters do not depend on the size of the image until a layer flattens it"


def _first_difference(got: object, expected: Tensor, layers: Sequence[Layer], images: str) -> str:
    """Where two tables of whole numbers first differ, digit by digit; empty if they do not, or are no such tables."""
    try:
        table = torch.as_tensor(got).double()
    except (TypeError, ValueError, RuntimeError):
        return ""
    if table.shape != expected.shape or not table.isfinite().all() or not table.any():
        return ""
    for i, (mine, right) in enumerate(zip(table.tolist(), expected.tolist(), strict=True)):
        if mine != right:
            a, b = (f"({pair[0]:,.0f}, {pair[1]:,.0f})" for pair in (right, mine))
            return f"layer {i}, {layers[i]}, of {list(layers)} on {images}: expected {a}, got {b}"
    return ""


MISTAKES = {
    "groups": "groups are ignored: a kernel sees only in_channels / groups channels",
    "bias": "the biases are missing: one for each output channel or unit",
    "fc bias": "the biases of the fully connected layers are missing: one for each unit",
    "conv bias": "the biases of the convolutions are missing: one for each output channel",
    "bias in macs": "the addition of the bias is no multiply-add; parameters and multiply-adds differ by that, too",
    "fc bias in macs": "the addition of an FC layer's bias is no multiply-add: mn of them, m(n + 1) parameters",
    "conv bias in macs": "the addition of a convolution's bias is no multiply-add; leave it out at every pixel",
    "bias once": "the biases count as parameters, not as multiply-adds; you added one for each output channel",
    "input size": "multiply-adds of a convolution: one kernel for each *output* pixel, you took the input's",
    "one pixel": "multiply-adds of a convolution: the kernels run at every output pixel",
    "no padding": "the padding is left out of the size, or counted once; it is added at both ends",
    "round": "round the size down: a window that does not fit is not used",
    "no pool": "pooling changes the side: (side - k) // s + 1",
    "flatten": "the first fully connected layer sees channels x side x side numbers",
    "swap": "the pairs are swapped: parameters first, then multiply-adds",
    "square": "a kernel has k x k pixels for each channel",
}


def _costs(layers: Sequence[Layer], c: int, n: int, mistake: str = "") -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for kind, *numbers in layers:
        values = [int(str(x)) for x in numbers]
        if kind == "conv":
            out, k, s, p, g = values
            g = 1 if mistake == "groups" else g
            p = 0 if mistake == "no padding" else p
            room = n + 2 * p - k
            m = (math.ceil(room / s) if mistake == "round" else room // s) + 1
            weights = out * (c // g) * (k if mistake == "square" else k * k)
            pixels = {"input size": n * n, "one pixel": 1}.get(mistake, m * m)
            c, n, bias = out, m, out
        elif kind == "pool":
            k, s = values
            n = n if mistake == "no pool" else (n - k) // s + 1
            pairs.append((0, 0))
            continue
        else:
            (out,) = values
            weights, pixels, bias = out * c * (1 if mistake == "flatten" else n * n), 1, out
            c, n = out, 1
        name = "fc" if kind == "fc" else "conv"
        parameters = weights + (0 if mistake in ("bias", f"{name} bias") else bias)
        macs = (parameters if mistake in ("bias in macs", f"{name} bias in macs") else weights) * pixels
        macs += bias if mistake == "bias once" else 0
        pairs.append((macs, parameters) if mistake == "swap" else (parameters, macs))
    return pairs


@exercise("A head for any size")
def any_size(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """``answer(maps, weight, bias)``: the mean of each map, then ``weight`` (classes, C) and ``bias`` (classes,)."""
    for (b, c), classes, sizes in (((2, 5), 3, ((6, 6), (4, 9), (1, 1), (13, 7))), ((1, 8), 4, ((7, 7), (3, 2)))):
        weight, bias = torch.randn(classes, c), torch.randn(classes)
        for H, W in sizes:
            maps = torch.randn(b, c, H, W) + 0.5
            given = maps.clone(), weight.clone(), bias.clone()
            try:
                got = answer(*given)
            except (RuntimeError, ValueError, IndexError) as error:
                first = str(error).splitlines()[0]
                raise Wrong(f"stops for {c} maps of {H}x{W}; it should take any size. The message: {first}") from error

            resized = F.interpolate(maps, (6, 6), mode="bilinear")
            wrong = {
                "the maps are summed, so a larger image has larger logits; take the mean": maps.sum((2, 3)),
                "the largest number of each map is taken; the mean is asked": maps.amax((2, 3)),
                "the maps are resized first, which weighs pixels unequally; average them all": resized.mean((2, 3)),
                "only one corner of a larger map is averaged; use all pixels": maps[:, :, :6, :6].mean((2, 3)),
            }
            mistakes = {words: F.linear(means, weight, bias) for words, means in wrong.items()}
            mistakes["the bias is missing"] = F.linear(maps.mean((2, 3)), weight)
            expected = torch.einsum("bchw,kc->bk", maps, weight) / (H * W) + bias
            equal(got, expected, mistakes=mistakes, what=f"{c} maps of {H}x{W}")
            _untouched({"maps": (given[0], maps), "weight": (given[1], weight), "bias": (given[2], bias)})
    return "right: the parameters see C numbers, whatever the size of the map"


@exercise("The partial connections of C3")
def partial_convolution(answer: Callable[[Tensor, Tensor, Tensor, list[list[int]]], Tensor]) -> str:
    """``answer(x, weight, bias, table)``: output map ``o`` sees only the input maps in ``table[o]``."""
    for c, out, k in ((6, 16, 5), (4, 3, 3), (3, 3, 1)):
        x, weight, bias = torch.randn(2, c, 9, 11), torch.randn(out, c, k, k), torch.randn(out)
        table = [torch.randperm(c)[: 1 + int(torch.randint(c - 1, ()))].tolist() for _ in range(out)]
        mask = torch.tensor([[float(i in seen) for i in range(c)] for seen in table])[:, :, None, None]
        shown = F.conv2d(x, weight * mask, bias)
        scaled = F.conv2d(x, weight * mask * c / mask.sum(1, keepdim=True), bias)
        mistakes = {
            "every output map sees all input maps; use the table": F.conv2d(x, weight, bias),
            "the table is turned round: these are the maps that should *not* be seen": F.conv2d(
                x, weight * (1 - mask), bias
            ),
            "the kernels are scaled up to make up for the missing maps; nothing is to be made up for": scaled,
            "the bias is missing": F.conv2d(x, weight * mask),
            "the bias is added once for each map that is seen; it belongs to the output map": shown
            + bias.view(-1, 1, 1) * (mask.sum(1).view(-1, 1, 1) - 1),
        }
        if c == out:
            key = "rows and columns of the table are swapped: table[o] lists what output map o sees"
            mistakes[key] = F.conv2d(x, weight * mask.transpose(0, 1), bias)
        given = x.clone(), weight.clone(), bias.clone()
        got = answer(*given, [list(seen) for seen in table])
        expected = torch.stack(
            [F.conv2d(x[:, seen], weight[o : o + 1, seen], bias[o : o + 1])[:, 0] for o, seen in enumerate(table)], 1
        )
        equal(got, expected, mistakes=mistakes, what=f"{c} to {out} maps, {k}x{k} kernels")
        _untouched({"x": (given[0], x), "weight": (given[1], weight), "bias": (given[2], bias)})
    return "right: a missing connection is a weight that stays zero"


@exercise("LeNet-5, old and new parts mixed")
def hybrid(answer: Callable[[type[nn.Module], type[nn.Module]], nn.Module]) -> str:
    """``answer(activation, pool)`` builds LeNet-5 for (B, 1, 32, 32) from two module classes."""
    for activation, pool in ((nn.Tanh, nn.MaxPool2d), (nn.ReLU, nn.AvgPool2d)):
        model = answer(activation, pool)
        if model is None or model is ...:
            raise NotImplementedError
        if not isinstance(model, nn.Module):
            raise Wrong(f"expected a module, got {type(model).__name__}")
        images = torch.randn(3, 1, 32, 32)
        calls, logits = _calls(model, images)
        if tuple(logits.shape) != (3, 10):
            raise Wrong(f"expected logits (3, 10) for three images of 32x32, got {tuple(logits.shape)}")
        _order(calls, activation, pool)
        count = sum(p.numel() for p in model.parameters())
        if count != 61_706:
            raise Wrong(f"expected 61 706 parameters, got {count}; compare the layers with summary(lenet5(), ...)")
        maps = [tuple(p.shape) for p in model.parameters() if p.ndim == 4]
        if maps[:2] != [(6, 1, 5, 5), (16, 6, 5, 5)]:
            raise Wrong(f"expected kernels (6, 1, 5, 5) and (16, 6, 5, 5) first, got {maps}")
        x = images
        for i, layer in enumerate(layer for layer, _ in calls if isinstance(layer, WEIGHTED)):
            x = layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)
            x = activation()(x) if i < 4 else x
            x = pool(2)(x) if i < 2 else x
        if not torch.allclose(x.flatten(1), logits, atol=1e-5):
            raise Wrong("the layers are called in the right order, but the logits are not what they give one by one")
    return "right: four networks from two choices; train them and compare"


WEIGHTED = (nn.Conv2d, nn.Linear)
SILENT = (nn.Flatten, nn.Unflatten, nn.Identity, nn.ZeroPad2d)


def _calls(model: nn.Module, x: Tensor) -> tuple[list[tuple[nn.Module, Tensor]], Tensor]:
    """Every layer that computes, in the order of the calls, with its output; one module may be called several times."""
    calls: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, _inputs: object, output: object) -> None:
        if not list(module.children()) and not isinstance(module, SILENT) and isinstance(output, Tensor):
            calls.append((module, output))

    hook = nn.modules.module.register_module_forward_hook(keep)
    try:
        with torch.no_grad():
            return calls, model(x)
    finally:
        hook.remove()


def _order(calls: list[tuple[nn.Module, Tensor]], activation: type[nn.Module], pool: type[nn.Module]) -> None:
    """What follows each of the five layers with weights?"""
    starts = [i for i, (layer, _) in enumerate(calls) if isinstance(layer, WEIGHTED)]
    if len(starts) != 5 or starts[0] != 0:
        names = ", ".join(type(layer).__name__ for layer, _ in calls)
        raise Wrong(f"expected C1 first, and five layers with weights: C1, C3, C5, F6, output; the calls are {names}")
    after = [[type(layer) for layer, _ in calls[a + 1 : b]] for a, b in itertools.pairwise([*starts, len(calls)])]
    wanted: dict[str, list[type]] = {
        "C1": [activation, pool], "C3": [activation, pool], "C5": [activation], "F6": [activation], "the logits": [],
    }  # fmt: skip
    for (name, kinds), got in zip(wanted.items(), after, strict=True):
        if got != kinds:
            a, b = (", then ".join(kind.__name__ for kind in each) or "nothing" for each in (kinds, got))
            asked = f"hybrid({activation.__name__}, {pool.__name__})"
            raise Wrong(f"{asked}: after {name} expected {a}, got {b}")


def _untouched(pairs: dict[str, tuple[Tensor, Tensor]]) -> None:
    for name, (after, before) in pairs.items():
        if not torch.equal(after, before):
            raise Wrong(f"the result is right, but your function changes {name} of its caller; make a new tensor")
