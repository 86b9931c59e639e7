"""How each kind of tensor operation passes on what its inputs depend on: one rule for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils._pytree import tree_leaves

from cvbook.convolution.fields import Array, WholeImage, collapse, gather, narrow, nothing, regroup, union

__all__ = ["RULES", "NoRule", "Rule", "pointwise"]

LIMIT = 2**24  # entries of one array; larger products of attention are merged first

Rule = Callable[[dict[str, Any], tuple[int, ...], Callable[[object], Array | None]], Array]


class NoRule(NotImplementedError):
    """An operation whose dependence on the image is not known here."""


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


def _adaptive(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    """A window that grows with the image."""
    image, out = given["self"], field(given["self"])
    for d in range(-2, 0):
        if image.shape[d] != shape[d] and out.shape[d] > 1:
            out = np.full_like(out.take([0], axis=d), WholeImage)
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


def _cat(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    tensors = [t for t in given["tensors"] if t.shape != (0,)]
    new = len(shape) > tensors[0].ndim  # stack
    dim = given["dim"] % len(shape)
    pieces, sizes = [], []
    for tensor in tensors:
        known = field(tensor)
        piece = nothing(tensor.ndim) if known is None else known
        pieces.append(np.expand_dims(piece, dim + 1) if new else piece)
        sizes.append(1 if new else tensor.shape[dim])
    common = np.broadcast_shapes(*(piece.take([0], axis=dim + 1).shape for piece in pieces))
    wide = [np.broadcast_to(p, (*common[: dim + 1], n, *common[dim + 2 :])) for p, n in zip(pieces, sizes, strict=True)]
    return narrow(np.concatenate(wide, dim + 1), [dim])


def _pad(mode: str) -> Rule:
    def rule(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
        pad = given.get("pad") or given["padding"]
        out = field(given["self"])
        for d in range(len(pad) // 2):
            n = given["self"].shape[-1 - d]
            place = np.arange(-pad[2 * d], n + pad[2 * d + 1])
            if mode == "reflect":
                place = n - 1 - abs(n - 1 - abs(place))
            elif mode == "replicate":
                place = place.clip(0, n - 1)
            out = gather(out, -1 - d, place)
        return out

    return rule


def _roll(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    if not given["dims"]:
        raise NoRule("expected roll(x, shifts, dims=...), got a roll of the flattened tensor; name the dims")
    out = field(given["self"])
    for shift, d in zip(given["shifts"], given["dims"], strict=True):
        out = gather(out, d, (np.arange(shape[d]) - shift) % shape[d])
    return out


def _flip(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    out = field(given["self"])
    for d in given["dims"]:
        out = gather(out, d, np.arange(shape[d])[::-1])
    return out


def _index(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    indices = (
        given["indices"] if "indices" in given else [None] * (given["dim"] % given["self"].ndim) + [given["index"]]
    )
    used = [d for d, index in enumerate(indices) if index is not None]
    if len(used) == 1 and indices[used[0]].ndim == 1 and field(given["self"]).shape[used[0] + 1] == 1:
        return field(given["self"])  # nothing changes along the dim, so any choice will do
    if len(used) != 1 or indices[used[0]].is_meta or indices[used[0]].ndim != 1:
        raise NoRule("expected indexing by one list of fixed positions, got computed or several indices")
    index = indices[used[0]] % given["self"].shape[used[0]]
    return narrow(gather(field(given["self"]), used[0], index.numpy()), used)


def _repeat(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    image, out = given["self"], field(given["self"])
    out = out.reshape(2, *(1,) * (len(shape) - image.ndim), *out.shape[1:])
    for d in range(len(shape)):
        out = gather(out, d, np.arange(shape[d]) % out.shape[d + 1])
    return out


def _scatter(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    """What an assignment to a part of a tensor becomes."""
    dim = given["dim"] % len(shape)
    base, part = field(given["self"]), field(given["src"])
    one = nothing(len(shape))
    base = one if base is None else base
    part = one if part is None else part if "start" in given else np.expand_dims(part, dim + 1)
    where = range(shape[dim])
    chosen = list(where[given["start"] : given["end"] : given["step"]] if "start" in given else [where[given["index"]]])
    other = np.broadcast_shapes(*(a.take([0], axis=dim + 1).shape for a in (base, part)))
    out = np.broadcast_to(base, (*other[: dim + 1], shape[dim], *other[dim + 2 :])).copy()
    out[(slice(None),) * (dim + 1) + (chosen,)] = part
    return narrow(out, [dim])


def _shuffle(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    """Pixels to channels, channels to pixels, channels among channels: split, permute, merge."""
    old = tuple(given["self"].shape)
    split: tuple[int, ...]
    order: tuple[int, ...]
    b, c, h, w = old
    if "upscale_factor" in given:
        r = given["upscale_factor"]
        split, order = (b, c // r**2, r, r, h, w), (0, 1, 4, 2, 5, 3)
    elif "downscale_factor" in given:
        r = given["downscale_factor"]
        split, order = (b, c, h // r, r, w // r, r), (0, 1, 3, 5, 2, 4)
    else:
        r = given["groups"]
        split, order = (b, r, c // r, h, w), (0, 2, 1, 3, 4)
    out = regroup(field(given["self"]), old, split).transpose(0, *(d + 1 for d in order))
    return regroup(out, [split[d] for d in order], shape)


def _glu(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    half = np.arange(shape[given["dim"]])
    return gather(field(given["self"]), given["dim"], np.stack([half, half + len(half)], 1))


def _same(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    return regroup(field(given["self"]), given["self"].shape, shape)


def _copy(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    source = field(given.get("src", given.get("value")))
    return nothing(len(shape)) if source is None else union(source, nothing(len(shape)))


REDUCTIONS = """mean sum prod amax amin max min argmax argmin any all var std var_mean std_mean logsumexp median norm
    linalg_vector_norm _softmax _log_softmax _safe_softmax cumsum cumprod sort topk _fft_r2c _fft_c2c _fft_c2r"""
POOLS = "max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d"

RULES: dict[str, Rule] = {
    "convolution": _convolution,
    **dict.fromkeys(["view", "_unsafe_view", "reshape", "_reshape_alias"], _same),
    **dict.fromkeys(POOLS.split(), _windows),
    **dict.fromkeys(["_adaptive_avg_pool2d", "adaptive_max_pool2d"], _adaptive),
    **dict.fromkeys(REDUCTIONS.split(), _reduction),
    "native_layer_norm": _normalized(lambda given: range(-len(given["normalized_shape"]), 0)),
    "native_group_norm": _normalized(lambda given: range(1, given["input"].ndim)),
    "mm": _product("self", "mat2"), "bmm": _product("self", "mat2"),
    "addmm": _product("mat1", "mat2", "self"), "baddbmm": _product("batch1", "batch2", "self"),
    "cat": _cat, "stack": _cat,
    "constant_pad_nd": _pad("zeros"),
    **dict.fromkeys(["reflection_pad1d", "reflection_pad2d"], _pad("reflect")),
    **dict.fromkeys(["replication_pad1d", "replication_pad2d"], _pad("replicate")),
    "upsample_nearest2d": _upsample("nearest"), "_upsample_nearest_exact2d": _upsample("exact"),
    "upsample_bilinear2d": _upsample("linear"), "upsample_bicubic2d": _upsample("cubic"),
    "roll": _roll, "flip": _flip, "index": _index, "index_select": _index, "repeat": _repeat,
    "slice_scatter": _scatter, "select_scatter": _scatter,
    "pixel_shuffle": _shuffle, "pixel_unshuffle": _shuffle, "channel_shuffle": _shuffle,
    "glu": _glu, "copy": _copy, "copy_": _copy, "fill": _copy, "zero": _copy,
}  # fmt: skip
