"""What can be wrong with a basic block, for the check of the lesson *ResNet*."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cvbook.checks.verdict import Wrong

__all__ = ["block_mistakes", "same_names", "same_steps"]


def same_names(mine: nn.Module, theirs: nn.Module, what: str) -> None:
    """Raise `Wrong` if the parts of two blocks have other names or shapes."""
    ours, given = mine.state_dict(), theirs.state_dict()
    for name in given:
        if name not in ours:
            if name == "downsample.0.weight" and any(key.startswith("downsample") for key in ours):
                raise Wrong("downsample should be nn.Sequential(convolution, normalization); it is something else")
            if name == "downsample.0.weight":
                raise Wrong(f"for {what}, the shortcut has another size than the branch: it needs downsample")
            if name.startswith("downsample.1."):
                raise Wrong("a projection is a 1x1 convolution *and* batch normalization: downsample.1 is missing")
            raise Wrong(f"expected a part named {name.rsplit('.', 1)[0]}, as in torchvision; for {what} there is none")
        if ours[name].shape != given[name].shape:
            raise Wrong(
                f"for {what}, {name} should have shape {tuple(given[name].shape)}, not {tuple(ours[name].shape)}"
            )
    for name in ours:
        if name not in given:
            if name.startswith("downsample") and "downsample.0.weight" not in given:
                raise Wrong(f"for {what}, nothing has to be projected: downsample is None, and x is added as it is")
            if name.endswith("bias"):
                raise Wrong(f"{name}: in front of batch normalization a convolution needs no bias (bias=False)")
            raise Wrong(f"{name} is not a part of the block")


def same_steps(mine: nn.Module, theirs: nn.Module, what: str) -> None:
    """Raise `Wrong` if convolutions of two blocks have another stride or padding."""
    ours = dict(mine.named_modules())
    for name, right in theirs.named_modules():
        conv = ours.get(name)
        if not isinstance(right, nn.Conv2d) or not isinstance(conv, nn.Conv2d):
            continue
        for setting in ("stride", "padding"):
            expected, got = getattr(right, setting)[0], getattr(conv, setting)
            if got not in (expected, (expected, expected)):
                got = got[0] if isinstance(got, tuple) and len(set(got)) == 1 else got
                raise Wrong(f"for {what}, {name} should have {setting} {expected}, not {got}: the two ways do not fit")


def _way(block: Any, x: Tensor) -> Tensor:
    return x if block.downsample is None else block.downsample(x)


def _inner(block: Any, x: Tensor) -> Tensor:
    return F.relu(block.bn1(block.conv1(x)))


def _branch(block: Any, x: Tensor) -> Tensor:
    return block.bn2(block.conv2(_inner(block, x)))


def _overwritten(block: Any, x: Tensor) -> Tensor:
    x = _branch(block, x)
    return F.relu(x + _way(block, x))


def _half_way(block: Any, x: Tensor) -> Tensor:
    x = _inner(block, x)
    return F.relu(block.bn2(block.conv2(x)) + _way(block, x))


def _late_stride(block: Any, x: Tensor) -> Tensor:
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return F.relu(_branch(block, x) + _way(block, x))


def block_mistakes(theirs: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    """What known mistakes give for ``x``, with the weights of ``theirs``."""
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
    "the first normalization is missing": lambda b, x: F.relu(b.bn2(b.conv2(F.relu(b.conv1(x)))) + _way(b, x)),
    "the second convolution is followed by bn1 again; it has a normalization of its own, bn2": (
        lambda b, x: F.relu(b.bn1(b.conv2(_inner(b, x))) + _way(b, x))
    ),
    "the inner ReLU comes before the normalization; it belongs after it": (
        lambda b, x: F.relu(b.bn2(b.conv2(b.bn1(F.relu(b.conv1(x))))) + _way(b, x))
    ),
    "the second normalization comes after the addition; it belongs to the branch": (
        lambda b, x: F.relu(b.bn2(b.conv2(_inner(b, x)) + _way(b, x)))
    ),
    "x is overwritten on the way: what is added is the branch once more, not the input of the block": _overwritten,
    "the shortcut begins behind the first ReLU; what is added is the input of the block": _half_way,
    "the shortcut goes through a ReLU of its own; it is added as it is": (
        lambda b, x: F.relu(_branch(b, x) + F.relu(_way(b, x)))
    ),
}  # fmt: skip
