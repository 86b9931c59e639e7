"""Follow, while a network runs, which rows and columns of the image each entry of each tensor depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from cvbook.convolution.fields import Array
from cvbook.convolution.moves import NoRule
from cvbook.convolution.rules import RULES, pointwise

__all__ = ["CircularPadding", "Dependence", "NoRule"]

UNRELATED = ("new_", "empty", "zeros", "ones", "full", "sym_")  # results that take only the shape of the input
POINTWISE = {"_to_copy", "hardtanh", "hardswish", "_prelu_kernel", "where", "native_dropout", "relu6"}
POINTWISE |= {"log_sigmoid_forward", "rrelu_with_noise", "rrelu_with_noise_functional", "complex", "polar"}
POINTWISE |= {"triu", "tril"}  # keep some entries, clear the others


class Dependence(TorchDispatchMode):
    """Follows the dependence on ``image`` through all that runs inside ``with Dependence(image) as seen:``.

    ``seen.fields[tensor]`` is then a tuple of arrays, one for each of ``axes`` (0: rows, 1: columns), for each tensor
    that depends on the image. Tensors beside it that are not on the meta device are replaced by meta ones, so nothing
    is computed.

    Raises:
        NotImplementedError: at an operation without a rule, naming it.
    """

    def __init__(self, image: Tensor, axes: Sequence[int] = (0, 1)) -> None:
        super().__init__()
        self.fields: Any = WeakTensorKeyDictionary()
        self.axes = range(len(axes))
        places = [np.arange(image.shape[2 + axis], dtype=np.int32) for axis in axes]
        self.fields[image] = tuple(
            np.stack([place, -place]).reshape(2, 1, 1, *((-1, 1) if axis == 0 else (1, -1)))
            for place, axis in zip(places, axes, strict=True)
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        seen = [leaf for leaf in leaves if leaf.is_meta and leaf in self.fields]
        if not any(leaf.is_meta for leaf in leaves):
            return func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name == "index":  # a fixed mask along one dim chooses fixed positions
            fixed = [i.nonzero()[:, 0] if i is not None and _mask(i) else i for i in args[1]]
            args = (args[0], fixed)
        args_, kwargs_ = tree_map_only(Tensor, lambda t: t if t.is_meta else t.to("meta"), (args, kwargs or {}))
        outputs = func(*args_, **kwargs_)
        if seen and not name.startswith(UNRELATED) and not name.endswith("_like"):
            pairs = [self._apply(func, name, axis, args, kwargs or {}, outputs) for axis in self.axes]
            for out, *pair in zip(_tensors(outputs), *pairs, strict=True):
                self.fields[out] = tuple(pair)
        return outputs

    def _apply(self, func: Any, name: str, axis: int, args: Any, kwargs: Any, outputs: Any) -> list[Array]:
        """The arrays of one image axis for all outputs of an operation."""
        names = func._schema.arguments
        given = (
            {a.name: a.default_value for a in names} | dict(zip([a.name for a in names], args, strict=False)) | kwargs
        )

        def field(tensor: object) -> Array | None:
            known = isinstance(tensor, Tensor) and tensor.is_meta and tensor in self.fields
            return self.fields[tensor][axis] if known else None

        outs = _tensors(outputs)
        alias = func._schema.returns[0].alias_info if func._schema.returns else None
        if name in RULES:
            first = RULES[name](given, tuple(outs[0].shape), field)
        elif alias is not None and not alias.is_write:
            return _view(func, field(args[0]), args, kwargs)
        elif torch.Tag.pointwise in func.tags or name in POINTWISE or "batch_norm" in name:
            first = pointwise(given, field)
        else:
            raise NoRule(
                f"expected operations that receptive_field knows, got {func}; measure the parts of the module "
                "before and after it"
            )
        if all(out.shape == outs[0].shape for out in outs):
            return [first] * len(outs)
        rest = first.min(axis=tuple(range(1, first.ndim)), keepdims=True).reshape(2)  # statistics and the like
        return [first if out.shape == outs[0].shape else rest.reshape(2, *(1,) * out.ndim) for out in outs]


class CircularPadding(TorchFunctionMode):
    """Writes circular padding, which torch fills in piece by piece, as a concatenation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant") if func is F.pad else "constant"
        if mode != "circular":
            return func(*args, **kwargs)
        image, pad = (*args, kwargs.get("input"), kwargs.get("pad"))[:2] if len(args) != 1 else (args[0], kwargs["pad"])
        for d in range(len(pad) // 2):
            n, before, after = image.shape[-1 - d], pad[2 * d], pad[2 * d + 1]
            parts = [image.narrow(-1 - d, n - before, before), image, image.narrow(-1 - d, 0, after)]
            image = torch.cat([part for part in parts if part.shape[-1 - d]], -1 - d)
        return image


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _mask(index: Tensor) -> bool:
    return index.dtype == torch.bool and index.ndim == 1 and not index.is_meta


def _view(func: Any, field: Array | None, args: Any, kwargs: Any) -> list[Array]:
    """Run a view operation on the field itself, broadcast without copying to the full shape."""
    assert field is not None
    shape = tuple(args[0].shape)
    both = []
    for part in field:
        moved = func(torch.from_numpy(part.copy()).expand(shape), *args[1:], **kwargs)
        both.append([
            t[tuple(slice(0, 1) if t.stride(d) == 0 else slice(None) for d in range(t.ndim))].numpy()
            for t in _tensors(moved)
        ])  # fmt: skip
    return [np.stack(parts) for parts in zip(*both, strict=True)]
