"""Run a module on an image without data, and leave it as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from cvbook.convolution.dependence import CircularPadding, Dependence
from cvbook.convolution.fields import TooLarge
from cvbook.convolution.moves import NoRule

__all__ = ["DoesNotRun", "dtype", "evaluating", "first_line", "run", "untouched"]

SMALL = 2**16  # parameters up to this many entries keep their values, for modules that look at them
VALUES = ("Tensor.item()", "copy out of meta", "meta device type tensor to numpy", "data-independent", "meta tensors")
OUTSIDE = "mutating a non-functional tensor"


class DoesNotRun(Exception):
    """The module failed by itself on an image of this shape."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Put back whatever the parts of a module have had for attributes, and what their lists and dicts have held."""
    attributes = [(part, dict(vars(part))) for part in module.modules() if not _scripted(part)]
    kept = [(value, value.copy()) for _, had in attributes for value in had.values() if type(value) in (list, set)]
    held = [(value, value.copy()) for _, had in attributes for value in had.values() if isinstance(value, dict)]
    try:
        yield
    finally:
        for part, had in attributes:
            vars(part).clear()
            vars(part).update(had)
        for value, old in (*kept, *held):
            value.clear()
            (value.extend if isinstance(value, list) else value.update)(old)


def dtype(module: nn.Module) -> torch.dtype:
    """Of the first floating parameter."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.get_default_dtype())


def run(module: nn.Module, image: Tensor, seen: Dependence) -> Any:
    """What the module makes of a meta image, followed by ``seen``.

    Raises:
        DoesNotRun: from the module's own error.
        NotImplementedError: if what it does depends on pixel values, or its reach is not known.
    """
    places, tensors = _state(module)

    def forward(image: Tensor, *tensors: Tensor) -> Any:
        for holders, tensor in zip(places, tensors, strict=True):
            for holder, name in holders:
                holder[name] = tensor
        return module(image)

    with ExitStack() as stack:
        for context in (
            untouched(module), torch.no_grad(), torch.random.fork_rng(devices=[]), CircularPadding(), seen,
            mock.patch.object(torch.autograd.Function, "apply", classmethod(_forward)),
        ):  # fmt: skip
            stack.enter_context(context)
        if "torch._dynamo" in sys.modules:  # only then can a part be compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            return torch.func.functionalize(forward)(image, *tensors)
        except (NoRule, MemoryError, TooLarge):
            raise
        except Exception as error:
            raise _explain(error) from error


def first_line(error: BaseException | None) -> str:
    lines = str(error).splitlines() or [""]
    message = lines[-1 if "TorchScript interpreter" in lines[0] else 0]
    return f"{type(error).__name__}: {message}"[:200]


def _explain(error: Exception) -> Exception:
    message = str(error)
    if any(sign in message for sign in VALUES):
        return NotImplementedError(
            "expected a module that does the same whatever the pixel values are, got one that looks at them: "
            f"{first_line(error)}; measure the parts before and after that place"
        )
    if OUTSIDE in message:
        return NotImplementedError(
            "expected a module that writes only to tensors of its own, got one that writes what it computes from the "
            "image to a tensor made elsewhere; register that tensor as a buffer"
        )
    if isinstance(error, NotImplementedError):
        return NotImplementedError(
            f"expected a module with a forward that takes an image, got {first_line(error)}; implement it, or measure "
            "the module that calls the parts"
        )
    return DoesNotRun()


def _forward(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What ``apply`` of a custom function does without gradients."""
    if function.setup_context is torch.autograd.Function.setup_context:
        nothing = _anything
        context = SimpleNamespace(
            save_for_backward=nothing, save_for_forward=nothing, mark_dirty=nothing, set_materialize_grads=nothing,
            mark_non_differentiable=nothing, needs_input_grad=(False,) * len(args),
        )  # fmt: skip
        return function.forward(context, *args, **kwargs)
    return function.forward(*args, **kwargs)


def _anything(*args: Any, **kwargs: Any) -> None:
    """Takes what a custom function wants to keep for its gradient."""


def _state(module: nn.Module) -> tuple[list[list[tuple[dict[str, Any], str]]], list[Tensor]]:
    """Copies of the module's tensors without the data of the large ones, and all places that hold each."""
    places: dict[int, list[tuple[dict[str, Any], str]]] = {}
    tensors: dict[int, Tensor] = {}
    for part in module.modules():
        if _scripted(part):
            continue
        for holder in (part._parameters, part._buffers, vars(part)):
            for name, value in holder.items():
                if isinstance(value, Tensor):
                    places.setdefault(id(value), []).append((holder, name))
                    large = isinstance(value, nn.Parameter) and value.numel() > SMALL
                    tensors[id(value)] = value.detach().to("meta") if large else value.detach().clone()
    return list(places.values()), list(tensors.values())


def _scripted(part: nn.Module) -> bool:
    return isinstance(part, torch.jit.ScriptModule)
