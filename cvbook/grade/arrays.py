"""Tensors and arrays as data, for `cvbook.grade.wire`."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvbook.grade.messages import Tree

__all__ = ["DTYPES", "NUMBERS", "array_tree", "as_array", "from_tree", "tensor_tree"]

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool, torch.complex64, torch.complex128,
    )
}  # fmt: skip
NUMBERS = "biufc"  # kinds of NumPy's dtypes


def tensor_tree(value: Tensor) -> Tree:
    """A tensor that is not on "meta", of any layout and device."""
    plain = value.detach().resolve_conj().resolve_neg().to_dense().cpu().contiguous().as_subclass(Tensor)
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return ["tensor", str(plain.dtype).removeprefix("torch."), list(plain.shape), data]


def array_tree(value: np.ndarray[Any, Any]) -> Tree:
    """An array whose dtype is of a kind in ``NUMBERS``."""
    value = np.asarray(value)
    return ["array", value.dtype.str, list(value.shape), value.tobytes()]


def as_array(value: Any) -> np.ndarray[Any, Any] | None:
    """What NumPy makes of other containers of numbers: memory views, series, deques."""
    with contextlib.suppress(Exception):
        found = np.asarray(value)
        return found if found.dtype.kind in NUMBERS else None
    return None


def from_tree(kind: str, dtype: str, shape: list[int], data: bytes) -> Any:
    """The array or tensor again.

    >>> from_tree(*array_tree(np.array([1.0, 2.0])))
    array([1., 2.])

    Raises:
        ValueError, TypeError, KeyError, RuntimeError: if it was forged.
    """
    if kind == "tensor":
        if not data and 0 in shape:
            return torch.zeros(shape, dtype=DTYPES[dtype])
        return torch.frombuffer(bytearray(data), dtype=DTYPES[dtype]).reshape(shape)
    if kind != "array" or np.dtype(dtype).kind not in NUMBERS:
        raise TypeError(kind)
    return np.frombuffer(data, dtype).reshape(shape).copy()
