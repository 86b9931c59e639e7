"""Hold an answer to its exercise: what the reader is asked to build must not be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from cvbook.checks.verdict import Wrong

__all__ = ["by_hand"]

# what PyTorch runs in the end, whatever name the call went by (F.conv2d, torch.conv2d, nn.Conv2d, ...)
KERNELS = {
    "F.conv2d": "convolution", "F.batch_norm": "batch_norm", "F.fold": "col2im",
    "torch.softmax": "softmax", "torch.logsumexp": "logsumexp",
}  # fmt: skip


class _Refuse(TorchDispatchMode):
    def __init__(self, forbidden: tuple[str, ...]) -> None:
        super().__init__()
        self.forbidden = forbidden

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for name in self.forbidden:
            if KERNELS[name] in str(func):
                raise Wrong(f"this calls {name} or a function like it; here you build it yourself")
        return func(*args, **(kwargs or {}))


def by_hand(answer: Callable[..., Any], *forbidden: str) -> Callable[..., Any]:
    """The same function, but it raises `Wrong` if it computes with something forbidden.

    Args:
        answer: the reader's function.
        forbidden: keys of ``KERNELS``.
    """

    def call(*arguments: Any, **settings: Any) -> Any:
        with _Refuse(forbidden):
            return answer(*arguments, **settings)

    return call
