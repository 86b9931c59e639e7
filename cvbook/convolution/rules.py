"""How each kind of tensor operation passes on what its inputs depend on: one rule for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils._pytree import tree_leaves

from cvbook.convolution.fields import Array, collapse, gather, narrow, union
from cvbook.convolution.moves import MOVES, NoRule, Rule

__all__ = ["RULES", "NoRule", "Rule", "pointwise"]

LIMIT = 2**22  # entries of one array; larger products of attention are merged first


def pointwise(given: dict[str, Any], field: Callable[[object], Array | None]) -> Array:
    out = union(*(field(leaf) for leaf in tree_leaves(list(given.values()))))
    if given.get("training") or given.get("use_input_stats"):  # batch norm without running statistics
        return collapse(out, [d for d in range(out.ndim - 1) if d != 1])
    return out


# The rules: rule(arguments by name, shape of the first output, field of a tensor) -> field of the output


def _each(value: Any, n: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * n if len(values) == 1 else values


def _windows(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    """Pooling: ceil mode needs no rule of its own, since the output's size is known."""
    out = field(given["self"])
    n = len(given["kernel_size"])
    kernel = _each(given["kernel_size"], n)
    stride = _each(given["stride"] or kernel, n)
    padding, dilation = _each(given["padding"], n), _each(given.get("dilation", 1), n)
    for i in range(n):
        taps = np.arange(shape[i - n])[:, None] * stride[i] - padding[i] + np.arange(kernel[i]) * dilation[i]
        out = gather(out, i - n, taps)
    return out


def _convolution(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    image, weight = given["input"], given["weight"]
    out, n, groups = field(image), weight.ndim - 2, given["groups"]
    dynamic = field(weight)
    if out is None or dynamic is not None:
        raise NoRule("expected convolution weights that do not depend on the image, got computed ones")
    channels = out.shape[2]
    if channels > 1:
        grouped = out.reshape(2, out.shape[1], groups, channels // groups, *out.shape[3:]).min(axis=3)
        out = narrow(grouped.repeat(shape[1] // groups, axis=2), [1])
    for i in range(n):
        stride, padding, dilation = (_each(given[key], n)[i] for key in ("stride", "padding", "dilation"))
        position, reach = np.arange(shape[2 + i])[:, None], np.arange(weight.shape[2 + i]) * dilation
        if given["transposed"]:
            place = position + padding - reach
            taps = np.where(place % stride == 0, place // stride, -1)
        else:
            taps = position * stride - padding + reach
        out = gather(out, 2 + i, taps)
    return out


def _upsample(kind: str) -> Rule:
    def rule(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
        image = given["self"]
        out = field(image)
        for i, key in ((2, "scales_h"), (3, "scales_w")):
            n, m = image.shape[i], shape[i]
            scale = 1 / given[key] if given.get(key) else n / m
            position = np.arange(m)
            if kind == "nearest":
                taps = np.minimum(np.floor(position * np.float32(scale)).astype(int), n - 1)[:, None]
            elif kind == "exact":
                taps = np.minimum(np.floor((position + 0.5) * scale).astype(int), n - 1)[:, None]
            else:
                corners = given["align_corners"]
                place = position * (n - 1) / max(m - 1, 1) if corners else (position + 0.5) * scale - 0.5
                place = np.round(place, 9)
                around = np.arange(0, 2) if kind == "linear" else np.arange(-1, 3)
                taps = np.floor(place).astype(int)[:, None] + around
                taps = np.where((place[:, None] == taps[:, [-around[0]]]) & (around != 0), -1, taps.clip(0, n - 1))
            out = gather(out, i, taps)
        return out

    return rule


def _antialiased(reach: int) -> Rule:
    """Resizing by a filter that is as wide as the step between output pixels, if that is larger than 1."""

    def rule(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
        out = field(given["self"])
        for i, key in ((2, "scales_h"), (3, "scales_w")):
            n, m = given["self"].shape[i], shape[i]
            scale = 1 / given[key] if given.get(key) else n / m
            if given["align_corners"]:
                scale = (n - 1) / max(m - 1, 1)
            center, support = (np.arange(m) + 0.5) * scale - 0.5, reach * max(scale, 1.0) - 1e-4
            start, stop = np.ceil(center - support).astype(int), np.floor(center + support).astype(int) + 1
            out = _between(out, i, start.clip(0, n - 1), stop.clip(1, n))
        return out

    return rule


def _between(field: Array, dim: int, start: Array, stop: Array) -> Array:
    """Entry ``o`` along ``dim`` becomes the union of the entries from ``start[o]`` to before ``stop[o]``."""
    axis, width, tables = dim % (field.ndim - 1) + 1, 1, field
    if field.shape[axis] == 1:
        return field
    while 2 * width <= (stop - start).min():  # entry i of tables: the union of ``width`` entries from i on
        n = tables.shape[axis] - width
        tables = np.minimum(tables.take(range(n), axis=axis), tables.take(range(width, width + n), axis=axis))
        width *= 2
    taps = range(-(-int((stop - start).max()) // width))
    return gather(tables, dim, np.stack([np.minimum(start + k * width, stop - width) for k in taps], 1))


def _adaptive(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    """Windows that share out the image: with it grow the windows, or the map (``mode="area"``)."""
    image, out = given["self"], field(given["self"])
    for d in range(-2, 0):
        n, m = image.shape[d], shape[d]
        if m == 1:
            out = collapse(out, [d])
        elif m != n:
            out = _between(out, d, np.arange(m) * n // m, -(-np.arange(1, m + 1) * n // m))
    return out


def _reduction(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    image = given["self"]
    dim = given.get("dim")
    dims = list(range(image.ndim)) if dim is None or dim == [] else [dim] if isinstance(dim, int) else list(dim)
    out = collapse(field(image), dims)
    if len(shape) < image.ndim:
        out = out.squeeze(axis=tuple(d % image.ndim + 1 for d in dims))
    return out


def _normalized(dims: Callable[[dict[str, Any]], Sequence[int]]) -> Rule:
    return lambda given, shape, field: collapse(union(field(given["input"])), dims(given))


def _product(a: str, b: str, bias: str = "") -> Rule:
    """``out[..., i, j]`` depends on row ``i`` of the first matrix and on column ``j`` of the second."""

    def rule(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
        left, right = field(given[a]), field(given[b])
        left = None if left is None else collapse(left, [-1])
        right = None if right is None else collapse(right, [-2])
        if left is not None and right is not None and math.prod(np.maximum(left.shape, right.shape)) > LIMIT:
            right = collapse(right, [-1])  # attention over a large map; its softmax would merge them anyway
        return union(left, right, field(given.get(bias)))

    return rule


REDUCTIONS = """mean sum prod amax amin max min argmax argmin any all var std var_mean std_mean logsumexp median norm
    linalg_vector_norm _softmax _log_softmax _safe_softmax cumsum cumprod cummax cummin _cummax_helper logcumsumexp
    kthvalue mode nanmedian aminmax sort topk _fft_r2c _fft_c2c _fft_c2r"""
POOLS = "max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d"

RULES: dict[str, Rule] = {
    **MOVES,
    "convolution": _convolution, "_convolution": _convolution,
    **dict.fromkeys(POOLS.split(), _windows),
    **dict.fromkeys(["_adaptive_avg_pool2d", "adaptive_max_pool2d"], _adaptive),
    **dict.fromkeys(REDUCTIONS.split(), _reduction),
    "native_layer_norm": _normalized(lambda given: range(-len(given["normalized_shape"]), 0)),
    "native_group_norm": _normalized(lambda given: range(1, given["input"].ndim)),
    "mm": _product("self", "mat2"), "bmm": _product("self", "mat2"),
    "addmm": _product("mat1", "mat2", "self"), "baddbmm": _product("batch1", "batch2", "self"),
    "upsample_nearest2d": _upsample("nearest"), "_upsample_nearest_exact2d": _upsample("exact"),
    "upsample_bilinear2d": _upsample("linear"), "upsample_bicubic2d": _upsample("cubic"),
    "_upsample_bilinear2d_aa": _antialiased(1), "_upsample_bicubic2d_aa": _antialiased(2),
}  # fmt: skip
