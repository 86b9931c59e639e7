"""Take over what others have learned: fill the book's networks with torchvision's weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest
from typing import TypeVar

import torch
from torch import Tensor, nn

from cvbook.cnns.googlenet import GoogLeNet

__all__ = ["load_torchvision"]

Model = TypeVar("Model", bound=nn.Module)

COUNTER = "num_batches_tracked"  # of batch normalization; files written before 2018 lack it
NUMBER = re.compile(r"(\d+)")
HEADS = ("aux1.", "aux2.")  # GoogLeNet's auxiliary classifiers
ANOTHER = "this looks like the state dict of another network"


def load_torchvision(model: Model, state_dict: Mapping[str, Tensor]) -> Model:
    """Fill a network of ``cvbook.cnns`` with the state dict of the same network in torchvision.

    The names differ, but the layers come in the same order. So the two lists of layers are walked side by side, and
    each must hold the same kinds of tensors (weight, bias, running_mean ...) of the same shapes. Nothing is copied
    before everything fits.

    GoogLeNet's auxiliary classifiers in the state dict are left out if the model has none, and ``num_batches_tracked``
    may be missing.

    Args:
        model: any network of the book that torchvision also has; changed in place.
        state_dict: of torchvision's model, trained or not; values are converted to the model's type and device.

    Returns:
        The model.

    Raises:
        TypeError: if ``model`` is no module, or ``state_dict`` no mapping from names to tensors.
        ValueError: if something does not fit; the model is then as it was.

    >>> import torchvision
    >>> from cvbook.cnns import resnet18
    >>> theirs, x = torchvision.models.resnet18().eval(), torch.randn(1, 3, 64, 64)
    >>> ours = load_torchvision(resnet18(), theirs.state_dict()).eval()
    >>> torch.allclose(ours(x), theirs(x), atol=1e-5)
    True
    """
    _check_types(model, state_dict)
    ours = model.state_dict()
    headless = isinstance(model, GoogLeNet) and model.aux1 is None
    theirs = {name: t for name, t in state_dict.items() if not (headless and name.startswith(HEADS))}
    if any(t.is_meta for t in (*ours.values(), *theirs.values())):
        raise ValueError(
            "expected tensors with values in the model and in the state dict, got some on the meta device; build both "
            "on the CPU"
        )
    with torch.no_grad():
        for name, other in _pairs(ours, theirs):
            ours[name].copy_(theirs[other])  # shares its memory with the model
    return model


def _check_types(model: object, state_dict: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected an nn.Module to fill, got {type(model).__name__}; build one with cvbook.cnns")
    if not isinstance(state_dict, Mapping):
        advice = "pass its state_dict()" if isinstance(state_dict, nn.Module) else "load the file with torch.load first"
        raise TypeError(f"expected a state dict, got {type(state_dict).__name__}; {advice}")
    for name, value in state_dict.items():
        if not isinstance(value, Tensor):
            advice = f"pass the dict under {name!r}" if isinstance(value, Mapping) else "pass model.state_dict()"
            raise TypeError(f"expected a state dict of tensors, got {type(value).__name__} as {name!r}; {advice}")


def _pairs(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Our name and theirs for every tensor to be copied; ValueError if the two lists do not fit together."""
    mine, given = _entries(ours), _entries(theirs)
    wrong = [(a, b) for a, b in zip_longest(mine, given) if a is None or b is None or _key(a, ours) != _key(b, theirs)]
    if wrong:
        a, b = wrong[0]
        raise ValueError(
            f"expected {_show(a, ours)}, got {_show(b, theirs)} (the model has {len(mine)} tensors, the state dict "
            f"{len(given)}); {_advice(wrong, ours, theirs)}"
        )
    if misplaced := _misplaced(theirs):
        raise ValueError(
            f"expected tensors in the order of torchvision's layers, got {misplaced}; load them into torchvision's "
            "model and pass its state_dict()"
        )
    pairs = list(zip(mine, given, strict=True))
    counters = [(_layer(a) + COUNTER, _layer(b) + COUNTER) for a, b in pairs if a.endswith("running_mean")]
    if unknown := {name for name in theirs if name.endswith(COUNTER)} - {b for _, b in counters}:
        raise ValueError(f"expected {COUNTER} of batch normalizations only, got {min(unknown)}; leave it out")
    return pairs + [(a, b) for a, b in counters if a in ours and b in theirs]


def _entries(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names layer by layer; inside a layer sorted, weight first: old files have ``running_mean`` before ``weight``."""
    layers: dict[str, list[str]] = {}
    for name in tensors:
        if not name.endswith(COUNTER):
            layers.setdefault(_layer(name), []).append(name)
    return [name for names in layers.values() for name in sorted(names, key=lambda n: (not n.endswith("weight"), n))]


def _layer(name: str) -> str:
    """``layer1.0.bn1.weight`` to ``layer1.0.bn1.``"""
    return name[: name.rfind(".") + 1]


def _key(name: str, tensors: Mapping[str, Tensor]) -> tuple[str, torch.Size]:
    return name.removeprefix(_layer(name)), tensors[name].shape


def _show(name: str | None, tensors: Mapping[str, Tensor]) -> str:
    return "nothing more" if name is None else f"{name} {tuple(tensors[name].shape)}"


def _advice(
    wrong: list[tuple[str | None, str | None]], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> str:
    """What is probably the matter, given the pairs that do not fit."""
    if theirs and list(theirs) == sorted(theirs):
        return "the tensors are sorted by name; load them into torchvision's model and pass its state_dict()"
    surplus = len(_entries(theirs)) - len(_entries(ours))
    if abs(surplus) == 1:
        return f"one is {'missing' if surplus < 0 else 'too many'}: pass all of the state_dict() of torchvision's model"
    sizes = {}
    for a, b in wrong:
        if a is None or b is None or _key(a, ours)[0] != _key(b, theirs)[0]:
            return ANOTHER
        mine, given = ours[a].shape, theirs[b].shape
        head = ours.get(_layer(a) + "weight", ours[a]).ndim == 2
        if head and len(mine) == len(given) and mine[1:] == given[1:]:
            sizes["num_classes"] = given[0]
        elif a == next(iter(ours)) and len(mine) == len(given) == 4 and mine[2:] == given[2:] and mine[0] == given[0]:
            sizes["in_channels"] = given[1]
        else:
            return ANOTHER
    options = " and ".join(f"{key}={value}" for key, value in sizes.items())
    return f"build the model with {options}, load, and replace the layer afterwards"


def _misplaced(names: Mapping[str, Tensor]) -> str:
    """Two numbered parts in the wrong order: ``conv2`` before ``conv1``, ``layer3.10`` before ``layer3.2``."""
    last: dict[str, tuple[list[int], str]] = {}
    for name in names:
        parts = name.split(".")
        for i, part in enumerate(parts):
            here = ".".join(parts[: i + 1])
            kind, numbers = ".".join([*parts[:i], NUMBER.sub("#", part)]), [int(n) for n in NUMBER.findall(part)]
            before, there = last.get(kind, (numbers, here))
            if numbers < before:
                return f"{there} before {here}"
            last[kind] = numbers, here
    return ""
