"""Checks of the lesson *ResNet*."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock as Reference

from cvbook.checks.answers import random_statistics
from cvbook.checks.residual_block import block_mistakes, same_names, same_steps
from cvbook.checks.verdict import Missing, Wrong, equal, exercise, finite

__all__ = ["basic_block", "convolution_weights", "input_gradient", "zero_init"]


@exercise("The basic block")
def basic_block(answer: Callable[..., nn.Module]) -> str:
    """``answer(in_channels, width, stride)`` is a module with torchvision's names; its weights are then copied in."""
    for channels, width, stride in ((8, 8, 1), (8, 16, 2), (12, 6, 1), (8, 8, 2)):
        what = f"{channels} channels, width {width} and stride {stride}"
        theirs, mine = _reference(channels, width, stride), answer(channels, width, stride)
        if not isinstance(mine, nn.Module):
            raise NotImplementedError if mine is None or mine is ... else Wrong("expected a subclass of nn.Module")
        if not mine.state_dict():
            raise NotImplementedError
        same_names(mine, theirs, what)
        mine.load_state_dict(theirs.state_dict())
        for training in (False, True):
            theirs.train(training)
            mine.train(training)
            x = torch.randn(4, channels, 10, 10)
            given = x.clone()
            try:
                with torch.no_grad():
                    got = mine(given)
            except RuntimeError:
                same_steps(mine, theirs, what)
                raise
            if got is None:
                raise Missing('forward returned None: write it, or did you forget "return"?')
            if not torch.equal(given, x):
                raise Wrong("your block overwrites its input: the shortcut wants it unchanged; look for in-place steps")
            with torch.no_grad():
                equal(
                    got,
                    theirs(x),
                    mistakes=block_mistakes(theirs, x),
                    what=f"{what}, {'train' if training else 'eval'} mode",
                )
    return "right: equal to torchvision's block, with and without a projection, in both modes"


@exercise("The price of a block")
def convolution_weights(answer: Callable[[int], tuple[int, int]]) -> str:
    """``answer(channels)`` returns how many weights the convolutions of a basic block and of a bottleneck have."""
    traps: dict[str, Callable[[int], tuple[float, float]]] = {
        "this is for 256 channels; use the argument": lambda c: (1_179_648, 69_632),
        "a basic block has two convolutions": lambda c: (9 * c * c, 17 * c * c / 16),
        "the 1x1 convolution that restores the channels is missing": lambda c: (18 * c * c, 13 * c * c / 16),
        "the 3x3 convolution of the bottleneck works on a quarter of the channels, in and out": (
            lambda c: (18 * c * c, 2 * c * c / 4 + 9 * c * c)
        ),
        "a weight belongs to a pair of channels: 3x3 of c/4 channels to c/4 channels has 9 (c/4)**2": (
            lambda c: (18 * c * c, 2 * c * c / 4 + 9 * c * c / 4)
        ),
        "a 1x1 convolution between c and c/4 channels has c * c/4 weights": lambda c: (18 * c * c, 11 * c * c / 16),
        "the basic block is c wide throughout; c/4 is for the bottleneck": lambda c: (18 * c * c / 16, 17 * c * c / 16),
        "kernels of 3x3 have 9 weights for each pair of channels": lambda c: (
            6 * c * c,
            2 * c * c / 4 + 3 * c * c / 16,
        ),
        "biases are counted; in front of batch normalization there are none": (
            lambda c: (18 * c * c + 2 * c, 17 * c * c / 16 + 1.5 * c)
        ),
        "scales and offsets of normalization are counted; only the convolutions are asked": (
            lambda c: (18 * c * c + 4 * c, 17 * c * c / 16 + 3 * c)
        ),
        "this bottleneck is c wide inside and 4 c outside; here c is outside, and inside are c/4": (
            lambda c: (18 * c * c, 17 * c * c)
        ),
    }
    got = {c: _pair(answer(c)) for c in (64, 256, 2048)}
    right = {c: (18.0 * c * c, 17.0 * c * c / 16) for c in got}
    if got != right:
        if not any(x for pair in got.values() for x in pair):
            raise Wrong("everything is zero: return the two numbers")
        if all(pair == right[c][::-1] for c, pair in got.items()):
            raise Wrong("the two numbers are swapped")
        for sentence, rule in traps.items():
            if all(pair == rule(c) for c, pair in got.items()):
                raise Wrong(sentence)
        c = next(c for c in got if got[c] != right[c])
        which = 0 if got[c][0] != right[c][0] else 1
        for sentence, rule in traps.items():  # both are wrong: name what is wrong with the first
            if all(pair[which] == rule(c)[which] for c, pair in got.items()):
                raise Wrong(sentence)
        block = ("basic block", "bottleneck")[which]
        raise Wrong(
            f"for c = {c}, the {block} has {right[c][which]:.0f} weights in convolutions, not {got[c][which]:.12g}"
        )
    return "right: 18 c² against 17/16 c²; at equal width the bottleneck has 17 times fewer weights"


@exercise("Plus one")
def input_gradient(answer: Callable[..., Any]) -> str:
    """``answer(branch, shortcut, x, upstream)`` returns dL/dx for ``relu(branch(x) + shortcut(x))``."""
    for projected in (False, True):
        _one_gradient(answer, projected)
    return "right: masked once, then two ways back; only the identity hands on exactly what it gets"


@exercise("Start as the identity")
def zero_init(answer: Callable[[Any], object]) -> str:
    """``answer(blocks)`` changes basic blocks in place so that each computes only ``relu(shortcut(x))``."""
    blocks = [_reference(*case, fresh=True) for case in ((4, 4, 1), (4, 8, 2), (8, 8, 1))]
    before = copy.deepcopy(blocks)
    parts = list(blocks)
    answer(blocks)
    if len(blocks) != len(parts) or any(a is not b for a, b in zip(blocks, parts, strict=True)):
        raise Wrong("the list itself is changed; keep its blocks and change a parameter in each of them")
    changed = set()
    for block, old in zip(blocks, before, strict=True):
        now, then = dict(block.named_parameters()), dict(old.named_parameters())
        if now.keys() != then.keys():
            raise Wrong("a block has lost or gained a part; keep all layers and change one kind of parameter")
        if any(not p.requires_grad for p in now.values()):
            raise Wrong("a parameter is frozen (requires_grad is False), so it never learns; change its numbers only")
        changed |= {name for name, p in now.items() if p.shape != then[name].shape or not torch.equal(p, then[name])}
    if not changed:
        raise Missing("nothing to check yet: no number has changed (offsets of normalization are zero from the start)")
    if any(name.startswith("downsample") for name in changed):
        raise Wrong("the projection is changed, too: then the block passes nothing at all; change the branch alone")
    zeros = [{name for name, p in block.named_parameters() if not p.any()} for block in blocks]
    for name in ("conv1.weight", "bn1.weight"):
        if any(name in these for these in zeros):
            raise Wrong(
                f"behind a zero {name} the ReLU passes no gradient: the branch never wakes up; zero what follows it"
            )
    ends = [these & {"conv2.weight", "bn2.weight"} for these in zeros]  # of each branch, what is zero
    if any(len(these) == 2 for these in ends):
        raise Wrong(
            "conv2 and its normalization are both zero: each gets its gradient through the other; change one kind"
        )
    x = torch.randn(4, 4, 8, 8)
    for i, block in enumerate(blocks):
        y = F.relu(block.downsample(x) if block.downsample is not None else x)
        if not torch.allclose(block(x), y, atol=1e-6):
            if ends[i]:
                raise Wrong("the branch is zero up to the offset of the last normalization, which is not")
            done = sum(map(bool, ends))
            some = f"only {done} of {len(blocks)} branches start at zero" if done else "no branch starts at zero"
            raise Wrong(f"{some}; block {i} still adds its own")
        if not ends[i]:
            raise Wrong(f"block {i} computes almost its shortcut, not exactly: its branch is small, not zero")
        x = y.detach()
    if any("conv2.weight" in these for these in ends):
        return (
            "right: each block starts as its shortcut, and conv2 learns. But normalization divides its zeros by "
            "sqrt(eps), so its first gradient is many times the usual one; a zero scale of bn2 does without that"
        )
    return "right: each block starts as its shortcut, and its last scale learns to open the branch"


def _one_gradient(answer: Callable[..., Any], projected: bool) -> None:
    branch = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 3, 3, padding=1))
    shortcut = nn.Conv2d(3, 3, 1) if projected else None
    x, upstream = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6)
    keep = x.clone(), upstream.clone()
    try:
        got = answer(branch, shortcut, x, upstream)
    except TypeError as error:
        if shortcut is None and str(error) == "'NoneType' object is not callable":
            raise Wrong("shortcut is None where it is the identity, and None cannot be called; use x there") from None
        raise
    if not (torch.equal(x, keep[0]) and torch.equal(upstream, keep[1])):
        raise Wrong("your function changes x or upstream in place; work on copies")
    way: Callable[[Tensor], Tensor] = shortcut if shortcut is not None else lambda t: t
    with torch.no_grad():
        mask = (branch(x) + way(x) > 0).float()
    passed = mask * upstream

    def pull(f: Callable[[Tensor], Tensor], g: Tensor, at: Tensor = x) -> Tensor:
        point = at.detach().clone().requires_grad_()
        return torch.autograd.grad(f(point), point, g)[0]

    right = pull(branch, passed) + pull(way, passed)
    known: dict[str, Callable[[], object]] = {
        "this is the branch alone: the shortcut hands the gradient on, too": lambda: pull(branch, passed),
        "this is the shortcut alone: the branch has a derivative, too": lambda: pull(way, passed),
        "the ReLU after the addition is missing: it stops the gradient where the sum is negative": (
            lambda: pull(branch, upstream) + pull(way, upstream)
        ),
        "the ReLU comes after the sum, so it masks both ways; the shortcut is not masked": (
            lambda: pull(branch, passed) + pull(way, upstream)
        ),
        "the ReLU comes after the sum, so it masks both ways; the branch is not masked": (
            lambda: pull(branch, upstream) + pull(way, passed)
        ),
        "the mask is taken from the branch alone; the ReLU sees the sum": (
            lambda: pull(branch, upstream * (branch(x) > 0)) + pull(way, upstream * (branch(x) > 0))
        ),
        "the mask is taken from x; the ReLU sees the sum": (
            lambda: pull(branch, upstream * (x > 0)) + pull(way, upstream * (x > 0))
        ),
        "the mask comes last, at x; the ReLU stands at the output, so mask upstream before it goes back": (
            lambda: mask * (pull(branch, upstream) + pull(way, upstream))
        ),
        "shortcut is never used: with a projection the sum is branch(x) + shortcut(x)": (
            lambda: pull(branch, upstream * (branch(x) + x > 0)) + upstream * (branch(x) + x > 0)
        ),
        "the mask takes x where the sum has shortcut(x)": (
            lambda: pull(branch, upstream * (branch(x) + x > 0)) + pull(way, upstream * (branch(x) + x > 0))
        ),
        "1 is added as a number; what the shortcut adds is the gradient that arrives, times 1": (
            lambda: pull(branch, passed) + 1
        ),
        "a projection is no identity: its derivative is not 1": lambda: pull(branch, passed) + passed,
        "a gradient goes back through a projection, not forward; use pull on shortcut": (
            lambda: pull(branch, passed) + way(passed)
        ),
        "the value of the shortcut is added; what it hands back is the gradient that arrives": (
            lambda: pull(branch, passed) + way(x)
        ),
        "upstream itself is cut off where it is negative; the ReLU looks at its input, the sum": (
            lambda: pull(branch, upstream.relu()) + pull(way, upstream.relu())
        ),
        "upstream is cut off where it is negative, too; the ReLU looks only at its input, the sum": (
            lambda: pull(branch, passed.relu()) + pull(way, passed.relu())
        ),
        "upstream is multiplied by the output of the ReLU; its derivative is 0 or 1": (
            lambda: (
                pull(branch, upstream * F.relu(branch(x) + way(x))) + pull(way, upstream * F.relu(branch(x) + way(x)))
            )
        ),
        "the mask is there twice, at the output and at x; the ReLU stands at the output alone": (
            lambda: mask * (pull(branch, passed) + pull(way, passed))
        ),
    }
    equal(got, right, mistakes=known, what=f"a shortcut {'with a projection' if projected else 'without layers'}")


def _pair(answer: Any) -> tuple[float, float]:
    if answer is None or answer is ...:
        raise NotImplementedError
    try:
        first, second = answer
    except (TypeError, ValueError):
        raise Wrong("expected two numbers: of the basic block and of the bottleneck") from None
    return finite(first, "the basic block"), finite(second, "the bottleneck")


def _reference(channels: int, width: int, stride: int, *, fresh: bool = False) -> Reference:
    """Torchvision's block; unless ``fresh``, with random scales, offsets and running statistics."""
    projection = None
    if stride != 1 or channels != width:
        projection = nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))
    block = Reference(channels, width, stride, projection)
    return block if fresh else random_statistics(block)
