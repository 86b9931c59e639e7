"""Hold an answer to its exercise: what the reader is asked to build or derive must not be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from cvbook.checks.verdict import Wrong

__all__ = ["by_formula", "by_hand", "ruled", "under"]

# what PyTorch runs in the end, whatever name the call went by (F.conv2d, torch.conv2d, nn.Conv2d, ...)
KERNELS = {
    "F.conv2d": ("convolution", "conv2d"), "F.batch_norm": ("batch_norm",), "F.fold": ("col2im",),
    "torch.softmax": ("softmax",), "torch.logsumexp": ("logsumexp",),
}  # fmt: skip


class _Refuse(TorchDispatchMode):
    """Refuses kernels."""

    def __init__(self, *forbidden: str) -> None:
        super().__init__()
        self.forbidden = forbidden

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for name in self.forbidden:
            if any(part in str(func) for part in KERNELS[name]):
                raise Wrong(f"this calls {name} or a function like it; here you build it yourself")
        return func(*args, **(kwargs or {}))


class _NoAutograd(TorchFunctionMode):
    """Refuses all that records a graph, and the dual numbers of forward mode."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        got = func(*args, **(kwargs or {}))
        if getattr(got, "requires_grad", False) or getattr(func, "__name__", "") == "_make_dual":
            raise Wrong("this calls autograd; here you write down the derivative that you found on paper")
        return got


RULES: dict[str, Callable[..., Any]] = {"by hand": _Refuse, "by formula": _NoAutograd}


def under(answer: Callable[..., Any], rule: str, *settings: str) -> Callable[..., Any]:
    """The same function; while it runs, a rule holds.

    Args:
        answer: the reader's function. If it runs in another process, its attribute ``under`` takes the rule there.
        rule: a key of ``RULES``.
        settings: of the rule.
    """
    if (there := getattr(answer, "under", None)) is not None:
        return there(rule, *settings)
    return ruled(answer, rule, *settings)


def ruled(answer: Callable[..., Any], rule: str, *settings: str) -> Callable[..., Any]:
    """The same for a function of this process."""

    def call(*arguments: Any, **named: Any) -> Any:
        with RULES[rule](*settings):
            return answer(*arguments, **named)

    return call


def by_hand(answer: Callable[..., Any], *forbidden: str) -> Callable[..., Any]:
    """The same function, but it raises `Wrong` if it computes with something forbidden.

    Args:
        answer: the reader's function.
        forbidden: keys of ``KERNELS``.
    """
    return under(answer, "by hand", *forbidden)


def by_formula(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, but it raises `Wrong` if it lets autograd find a derivative."""
    return under(answer, "by formula")
