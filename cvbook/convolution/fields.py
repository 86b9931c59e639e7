"""What is kept beside a tensor, for each axis of the image: the field of each of its entries.

A field is an integer array ``(2, *dims)``: ``[0]`` is the first and ``[1]`` the negated last row (or column) of the
image that an entry depends on, so the union of two fields is their minimum. Dims along which nothing changes have
length 1 and broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["Array", "NothingSeen", "WholeImage", "collapse", "gather", "narrow", "nothing", "regroup", "union"]

Array = np.ndarray
NothingSeen = 2**30  # first and negated last of the empty field: larger than any row
WholeImage = -(2**30)  # of a field that grows with the image


def nothing(ndim: int) -> Array:
    """The field of a tensor that does not depend on the image."""
    return np.full((2,) + (1,) * ndim, NothingSeen)


def union(*fields: Array | None) -> Array:
    known = [field for field in fields if field is not None]
    ndim = max(field.ndim for field in known)
    known = [field.reshape(2, *(1,) * (ndim - field.ndim), *field.shape[1:]) for field in known]
    out = known[0]
    for field in known[1:]:
        out = np.minimum(out, field)
    return out


def collapse(field: Array, dims: Sequence[int]) -> Array:
    """The union over some dims, which keep length 1; a union over all positions sees the whole image.

    It does so only if nothing varies along the dims that stay: a window of attention is not the whole image, even where
    it covers this one.
    """
    axes = tuple(d % (field.ndim - 1) + 1 for d in dims)
    out = field.min(axis=axes, keepdims=True)
    first = field[tuple(slice(0, 1) if a in axes else slice(None) for a in range(field.ndim))]
    last = field[tuple(slice(-1, None) if a in axes else slice(None) for a in range(field.ndim))]
    moves = (first < last)[0] & (first > last)[1] | (first > last)[0] & (first < last)[1]
    total = field.min(axis=tuple(range(1, field.ndim)), keepdims=True)
    stay = tuple(a for a in range(1, field.ndim) if a not in axes and field.shape[a] > 1)
    same = not stay or bool((field.min(axis=stay) == field.max(axis=stay)).all())
    return np.where(moves & (out == total).all(0) & same, WholeImage, out)


def narrow(field: Array, dims: Sequence[int]) -> Array:
    """Shorten the dims along which the field is constant to length 1."""
    for dim in dims:
        if field.shape[dim + 1] == 0:
            continue
        first = field.take([0], axis=dim + 1)
        if (field == first).all():
            field = first
    return field


def gather(field: Array, dim: int, table: Array) -> Array:
    """Entry ``o`` along ``dim`` becomes the union of the entries ``table[o]``; indices outside are padding."""
    axis, n = dim % (field.ndim - 1) + 1, field.shape[dim % (field.ndim - 1) + 1]
    if n == 1:
        return field
    nothing = np.full_like(field.take([0], axis=axis), NothingSeen)
    table = np.where((table >= 0) & (table < n), table, n).reshape(len(table), -1)
    return np.concatenate([field, nothing], axis).take(table, axis=axis).min(axis=axis + 1)


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
    return narrow(np.broadcast_to(field, full).reshape(2, *target), check)
