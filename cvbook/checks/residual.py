"""Checks of the lesson *ResNet*."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock as Reference

from cvbook.checks.verdict import Missing, Wrong, equal, exercise

__all__ = ["basic_block", "convolution_weights", "direction", "input_gradient", "zero_init"]


@exercise("The basic block")
def basic_block(answer: Callable[..., nn.Module]) -> str:
    """``answer(in_channels, width, stride)`` is a module with torchvision's names; its weights are then copied in."""
    for channels, width, stride in ((8, 8, 1), (8, 16, 2), (12, 6, 1)):
        what = f"{channels} channels, width {width} and stride {stride}"
        theirs, mine = _reference(channels, width, stride), answer(channels, width, stride)
        if not isinstance(mine, nn.Module):
            raise NotImplementedError if mine is None or mine is ... else Wrong("expected a subclass of nn.Module")
        if not mine.state_dict():
            raise NotImplementedError
        _same_names(mine, theirs, what)
        mine.load_state_dict(theirs.state_dict())
        for training in (False, True):
            theirs.train(training)
            mine.train(training)
            x = torch.randn(4, channels, 10, 10)
            given = x.clone()
            with torch.no_grad():
                got = mine(given)
            if not torch.equal(given, x):
                raise Wrong("your block overwrites its input: the shortcut wants it unchanged; look for in-place steps")
            with torch.no_grad():
                equal(
                    got,
                    theirs(x),
                    mistakes=_block_mistakes(theirs, x),
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
        "kernels of 3x3 have 9 weights for each pair of channels": lambda c: (
            6 * c * c,
            2 * c * c / 4 + 3 * c * c / 16,
        ),
        "biases are counted; in front of batch normalization there are none": (
            lambda c: (18 * c * c + 2 * c, 17 * c * c / 16 + 1.5 * c)
        ),
        "the two numbers are swapped": lambda c: (17 * c * c / 16, 18 * c * c),
    }
    sizes = (64, 256, 2048)
    got = [answer(c) for c in sizes]
    if any(pair is None or pair is ... or (isinstance(pair, (tuple, list)) and ... in pair) for pair in got):
        raise NotImplementedError
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in got):
        raise Wrong("expected two numbers: of the basic block and of the bottleneck")
    expected = torch.tensor([[18.0 * c * c, 17.0 * c * c / 16] for c in sizes], dtype=torch.float64)
    known: dict[str, Callable[[], object]] = {s: functools.partial(_counted, r, sizes) for s, r in traps.items()}
    equal([[float(x) for x in pair] for pair in got], expected, mistakes=known, what=f"{sizes} channels")
    return "right: 18 c² against 17/16 c²; at equal width the bottleneck has 17 times fewer weights"


@exercise("Plus one")
def input_gradient(answer: Callable[..., Any]) -> str:
    """``answer(branch, shortcut, x, upstream)`` returns dL/dx for ``relu(branch(x) + shortcut(x))``."""
    for projected in (False, True):
        _one_gradient(answer, projected)
    return "right: masked once, then two ways back; only the identity hands on exactly what it gets"


@exercise("A direction with the filters' lengths")
def direction(answer: Callable[..., Any]) -> str:
    """``answer(parameters, generator)`` returns a list of tensors, one for each parameter."""
    sizes = torch.logspace(-2, 1, 6).view(6, 1, 1, 1)
    parameters = [sizes * torch.randn(6, 3, 3, 3), torch.ones(6), torch.randn(6), 4 * torch.randn(5, 6), torch.randn(5)]
    before = [p.clone() for p in parameters]
    got = [_tensors(answer(parameters, torch.Generator().manual_seed(seed)), parameters) for seed in (1, 1, 2)]
    if any(not torch.equal(p, b) for p, b in zip(parameters, before, strict=True)):
        raise Wrong("the parameters themselves are changed; only a direction is asked")
    for d, p in zip(got[0], parameters, strict=True):
        if not d.isfinite().all():
            raise Wrong(f"a direction of shape {tuple(p.shape)} has NaN or infinite values")
        if p.ndim == 1 and d.any():
            raise Wrong("vectors (biases, and scale and offset of batch normalization) do not move: zeros for them")
        if p.ndim > 1:
            _check_filters(d.double().flatten(1), p.double().flatten(1))
    if not all(torch.equal(a, b) for a, b in zip(got[0], got[1], strict=True)):
        raise Wrong("two generators with the same seed give two directions; draw with generator=generator")
    if all(torch.equal(a, b) for a, b in zip(got[0], got[2], strict=True)):
        raise Wrong("two generators with different seeds give one direction; draw with generator=generator")
    return "right: each filter moves by its own length, and vectors stay where they are"


@exercise("Start as the identity")
def zero_init(answer: Callable[[Any], object]) -> str:
    """``answer(blocks)`` changes basic blocks in place so that each computes only ``relu(shortcut(x))``."""
    blocks = [_reference(*case, fresh=True) for case in ((4, 4, 1), (4, 8, 2), (8, 8, 1))]
    before = copy.deepcopy(blocks)
    answer(blocks)
    changed = {
        name
        for block, old in zip(blocks, before, strict=True)
        for (name, p), q in zip(block.named_parameters(), old.parameters(), strict=True)
        if not torch.equal(p, q)
    }
    if not changed:
        raise Missing("nothing to check yet: no parameter of the blocks has changed")
    if any(name.startswith("downsample") for name in changed):
        raise Wrong("the projection is changed, too: then the block passes nothing at all; change the branch alone")
    if changed & {"conv1.weight", "conv2.weight"}:
        raise Wrong("a zero convolution makes normalization divide by sqrt(eps); zero the scale of a normalization")
    if "bn1.weight" in changed:
        raise Wrong("behind a zero scale of bn1 the ReLU passes no gradient: the branch never wakes up; use the last")
    x = torch.randn(4, 4, 8, 8)
    for i, block in enumerate(blocks):
        y = F.relu(block.downsample(x) if block.downsample is not None else x)
        got = block(x)
        if not torch.allclose(got, y, atol=1e-6):
            if not block.bn2.weight.any():
                raise Wrong("the scale of the last normalization is zero, but its offset is not")
            done = sum(not b.bn2.weight.any() for b in blocks)
            some = f"only {done} of {len(blocks)} blocks are" if done else "no block is"
            raise Wrong(f"{some} the identity at the start; block {i} still adds its branch")
        x = y.detach()
    return "right: each block starts as its shortcut, and its last scale learns to open the branch"


def _one_gradient(answer: Callable[..., Any], projected: bool) -> None:
    branch = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 3, 3, padding=1))
    shortcut = nn.Conv2d(3, 3, 1) if projected else None
    x, upstream = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6)
    keep = x.clone(), upstream.clone()
    got = answer(branch, shortcut, x, upstream)
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
        "1 is added as a number; what the shortcut adds is the gradient that arrives, times 1": (
            lambda: pull(branch, passed) + 1
        ),
        "a projection is no identity: its derivative is not 1": lambda: pull(branch, passed) + passed,
    }
    equal(got, right, mistakes=known, what=f"a shortcut {'with a projection' if projected else 'without layers'}")


def _counted(rule: Callable[[int], tuple[float, float]], sizes: Sequence[int]) -> object:
    return [rule(c) for c in sizes]


def _reference(channels: int, width: int, stride: int, *, fresh: bool = False) -> Reference:
    """Torchvision's block; unless ``fresh``, with random scales, offsets and running statistics."""
    projection = None
    if stride != 1 or channels != width:
        projection = nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))
    block = Reference(channels, width, stride, projection)
    for layer in block.modules():
        if isinstance(layer, nn.BatchNorm2d) and not fresh:
            for t in (layer.weight.data, layer.bias.data, layer.running_mean):
                t.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return block


def _same_names(mine: nn.Module, theirs: nn.Module, what: str) -> None:
    ours, given = mine.state_dict(), theirs.state_dict()
    for name in given:
        if name not in ours:
            if name == "downsample.0.weight":
                raise Wrong(f"for {what}, the shortcut has another shape than the branch: it needs downsample")
            if name.startswith("downsample.1."):
                raise Wrong("a projection is a 1x1 convolution *and* batch normalization: downsample.1 is missing")
            raise Wrong(f"expected a part named {name.rsplit('.', 1)[0]}, as in torchvision; for {what} there is none")
        if ours[name].shape != given[name].shape:
            raise Wrong(
                f"for {what}, {name} should have shape {tuple(given[name].shape)}, not {tuple(ours[name].shape)}"
            )
    for name in ours:
        if name not in given:
            if name.startswith("downsample"):
                raise Wrong(f"for {what}, nothing has to be projected: downsample is None, and x is added as it is")
            if name.endswith("bias"):
                raise Wrong(f"{name}: in front of batch normalization a convolution needs no bias (bias=False)")
            raise Wrong(f"{name} is not a part of the block")


def _way(block: Any, x: Tensor) -> Tensor:
    return x if block.downsample is None else block.downsample(x)


def _inner(block: Any, x: Tensor) -> Tensor:
    return F.relu(block.bn1(block.conv1(x)))


def _branch(block: Any, x: Tensor) -> Tensor:
    return block.bn2(block.conv2(_inner(block, x)))


def _late_stride(block: Any, x: Tensor) -> Tensor:
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return F.relu(_branch(block, x) + _way(block, x))


def _block_mistakes(theirs: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    return {sentence: functools.partial(f, copy.deepcopy(theirs), x) for sentence, f in BLOCK_MISTAKES.items()}


BLOCK_MISTAKES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a ReLU comes before the addition, so the branch can never subtract; and none comes after it": (
        lambda b, x: F.relu(_branch(b, x)) + _way(b, x)
    ),
    "a ReLU comes before the addition, so the branch can never subtract; it belongs after it only": (
        lambda b, x: F.relu(F.relu(_branch(b, x)) + _way(b, x))
    ),
    "the ReLU after the addition is missing": lambda b, x: _branch(b, x) + _way(b, x),
    "the inner ReLU is missing": lambda b, x: F.relu(b.bn2(b.conv2(b.bn1(b.conv1(x)))) + _way(b, x)),
    "the shortcut is not added": lambda b, x: F.relu(_branch(b, x)),
    "only the shortcut is returned": lambda b, x: F.relu(_way(b, x)),
    "the stride is at the second convolution; torchvision and the paper have it at the first": _late_stride,
    "the projection misses its normalization": lambda b, x: F.relu(_branch(b, x) + b.downsample[0](x)),
    "the second normalization is missing": lambda b, x: F.relu(b.conv2(_inner(b, x)) + _way(b, x)),
}  # fmt: skip


def _tensors(answer: Any, parameters: Sequence[Tensor]) -> list[Tensor]:
    if answer is None or answer is ...:
        raise NotImplementedError
    if not isinstance(answer, Iterable):
        raise Wrong(f"expected a list of tensors, got {type(answer).__name__}")
    parts = list(answer)
    if any(part is None or part is ... for part in parts):
        raise NotImplementedError
    if [getattr(d, "shape", None) for d in parts] != [p.shape for p in parameters]:
        raise Wrong("expected one tensor for each parameter, of the same shape, in the same order")
    return [d.detach() for d in parts]


def _check_filters(d: Tensor, p: Tensor) -> None:
    """Rows are filters."""
    wanted, found = p.norm(dim=1), d.norm(dim=1)
    if not d.any():
        raise Wrong("the direction is zero everywhere; draw it at random first")
    if not torch.allclose(found, wanted, rtol=1e-3):
        if torch.allclose(d.norm(), p.norm(), rtol=1e-3):
            raise Wrong("the tensor as a whole has the right length; each filter, d[k], should have that of weight[k]")
        if torch.allclose(found, torch.ones_like(found), rtol=1e-3):
            raise Wrong("each filter of the direction has length 1; give it the length of the weight's filter")
        if torch.allclose(found, wanted**2, rtol=1e-3):
            raise Wrong("each length is squared: divide by the direction's own length and multiply by the filter's")
        k = int((found / wanted).log().abs().argmax())
        raise Wrong(f"filter {k} has length {found[k]:.3g}, the weight's filter {wanted[k]:.3g}")
    if (F.cosine_similarity(d, p).abs() > 0.999).all():
        raise Wrong("this is the weight itself (or its negative); the direction should be random")
    if (d >= 0).all():
        raise Wrong("no number is negative: draw with torch.randn, not torch.rand")
