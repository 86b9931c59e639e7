"""What is kept beside a tensor, for each axis of the image: the field of each of its entries.

A field is an int32 array ``(2, *dims)``: ``[0]`` is the first and ``[1]`` the negated last row (or column) of the
image that an entry depends on, so the union of two fields is their minimum. Dims along which nothing changes have
length 1 and broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = [
    "Array", "NothingSeen", "TooLarge", "WholeImage", "collapse", "gather", "narrow", "nothing", "regroup", "room",
    "union",
]  # fmt: skip

Array = np.ndarray
NothingSeen = 2**30  # first and negated last of the empty field: larger than any row
WholeImage = -(2**30)  # of a field that grows with the image
MOST = 2**27  # entries of one field: half a gigabyte


class TooLarge(ValueError):
    """A field with more entries than are worth the memory."""


def room(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape, if a field of this shape may be made."""
    if math.prod(shape) > MOST:
        raise TooLarge(
            f"expected tensors whose fields have at most {MOST} entries, got one of {math.prod(shape)}; measure the "
            "parts of the module, or give a smaller input_shape"
        )
    return tuple(shape)


def nothing(ndim: int) -> Array:
    """The field of a tensor that does not depend on the image."""
    return np.full((2,) + (1,) * ndim, NothingSeen, dtype=np.int32)


def union(*fields: Array | None) -> Array:
    known = [field for field in fields if field is not None]
    ndim = max(field.ndim for field in known)
    known = [field.reshape(2, *(1,) * (ndim - field.ndim), *field.shape[1:]) for field in known]
    room(np.broadcast_shapes(*(field.shape for field in known)))
    out = known[0]
    for field in known[1:]:
        out = out if field is out else np.minimum(out, field)
    return out


def collapse(field: Array, dims: Sequence[int]) -> Array:
    """The union over some dims, which keep length 1; a union over all positions sees the whole image.

    One of several windows that happens to cover the image does not: the field must not change along the other dims.
    """
    axes = tuple(d % (field.ndim - 1) + 1 for d in dims)
    if all(field.shape[a] == 1 for a in axes):
        return field
    out = field.min(axis=axes, keepdims=True)
    if any(field.shape[a] > 1 and _changes(field, a) for a in range(1, field.ndim) if a not in axes):
        return out
    first = field[tuple(slice(0, 1) if a in axes else slice(None) for a in range(field.ndim))]
    last = field[tuple(slice(-1, None) if a in axes else slice(None) for a in range(field.ndim))]
    moves = (first < last)[0] & (first > last)[1] | (first > last)[0] & (first < last)[1]
    return np.where(moves, np.int32(WholeImage), out)


def narrow(field: Array, dims: Sequence[int]) -> Array:
    """Shorten the dims along which the field is constant to length 1."""
    for dim in dims:
        if field.shape[dim + 1] > 1 and not _changes(field, dim + 1):
            field = field.take([0], axis=dim + 1)
    return field


def _changes(field: Array, axis: int) -> bool:
    first = field.take([0], axis=axis)
    return bool((field.take([-1], axis=axis) != first).any() or (field != first).any())


def gather(field: Array, dim: int, table: Array) -> Array:
    """Entry ``o`` along ``dim`` becomes the union of the entries ``table[o]``; indices outside are padding."""
    axis = dim % (field.ndim - 1) + 1
    n = field.shape[axis]
    if n == 1:
        return field
    room((*field.shape[:axis], len(table), *field.shape[axis + 1 :]))
    table = np.where((table >= 0) & (table < n), table, n).reshape(len(table), -1)
    padded = np.concatenate([field, np.full_like(field.take([0], axis=axis), NothingSeen)], axis)
    out = padded.take(table[:, 0], axis=axis)
    for tap in table.T[1:]:
        np.minimum(out, padded.take(tap, axis=axis), out=out)
    return out


def regroup(field: Array, old: Sequence[int], new: Sequence[int]) -> Array:
    """What ``reshape`` from ``old`` to ``new`` does to a field: dims merge and split group by group."""
    full, target = list(field.shape), []
    check: list[int] = []
    i = j = 0
    while i < len(old) or j < len(new):
        start, left, right, begin = i, 1, 1, j
        left, i = left * (old[i] if i < len(old) else 1), i + 1
        right, j = right * (new[j] if j < len(new) else 1), j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        members = range(start, min(i, len(old)))
        if all(field.shape[d + 1] == 1 for d in members):
            target += [1] * len(new[begin:j])
        else:
            target += new[begin:j]
            check += range(begin, min(j, len(new)))
            for d in members:
                full[d + 1] = old[d]
    return narrow(np.broadcast_to(field, room(full)).reshape(2, *target), check)
