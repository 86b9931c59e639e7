"""How the operations that only move entries pass on what those depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cvbook.convolution.fields import Array, NothingSeen, gather, narrow, nothing, regroup, room, union

__all__ = ["MOVES", "NoRule", "Rule"]

Rule = Callable[[dict[str, Any], tuple[int, ...], Callable[[object], Array | None]], Array]


class NoRule(NotImplementedError):
    """An operation whose dependence on the image is not known here."""


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
    if len(pieces) == 1 or all(p.shape[dim + 1] == 1 and np.array_equal(p, pieces[0]) for p in pieces):
        return pieces[0]
    room((*common[: dim + 1], shape[dim], *common[dim + 2 :]))
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
    out = field(given["self"])
    indices = (
        given["indices"] if "indices" in given else [None] * (given["dim"] % given["self"].ndim) + [given["index"]]
    )
    used = [d for d, index in enumerate(indices) if index is not None]
    if len(used) == 1 and indices[used[0]].ndim == 1 and out is not None:
        place, by = used[0], field(indices[used[0]])
        if out.shape[place + 1] == 1:  # nothing changes along the dim, so any choice will do
            return out if by is None else union(out, by.reshape(2, -1, *(1,) * (out.ndim - 2 - place)))
        if not indices[place].is_meta:
            return narrow(gather(out, place, (indices[place] % given["self"].shape[place]).numpy()), used)
    raise NoRule(
        "expected indexing by one list of fixed positions, got computed or several indices; make the list on the CPU, "
        "or index one dim after the other"
    )


def _choose(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    """``gather``: one position along ``dim`` for each entry."""
    out, index = field(given["self"]), given["index"]
    if out is None:
        out = nothing(index.ndim)
    dim = given["dim"] % index.ndim
    out = out[(slice(None), *(slice(None) if d == dim else slice(shape[d]) for d in range(len(shape))))]
    if out.shape[dim + 1] == 1:
        return union(out, field(index))
    if index.is_meta:
        raise NoRule(
            "expected gather at fixed positions, got computed ones; make the index on the CPU, outside forward"
        )
    full = [n if d == dim else shape[d] for d, n in enumerate(out.shape[1:])]
    return narrow(
        np.stack([np.take_along_axis(np.broadcast_to(part, room(full)), index.numpy(), dim) for part in out]),
        range(len(shape)),
    )


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
    if base.shape[dim + 1] == part.shape[dim + 1] == 1 and np.array_equal(base, part):
        return base
    where = range(shape[dim])
    chosen = list(where[given["start"] : given["end"] : given["step"]] if "start" in given else [where[given["index"]]])
    other = np.broadcast_shapes(*(a.take([0], axis=dim + 1).shape for a in (base, part)))
    out = np.broadcast_to(base, room((*other[: dim + 1], shape[dim], *other[dim + 2 :]))).copy()
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


def _rot90(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    first, second = (d % len(shape) + 1 for d in given["dims"])
    return np.rot90(field(given["self"]), given["k"], (first, second))


def _steps(given: dict[str, Any], size: Sequence[int]) -> tuple[list[int], list[int], list[Array]]:
    """Kernel and number of windows along both axes, and the pixel under each tap (kernel, windows)."""
    kernel, *others = (given[key] for key in ("kernel_size", "dilation", "padding", "stride"))
    count, pixels = [], []
    for n, k, d, p, s in zip(size, kernel, *others, strict=True):
        count.append((n + 2 * p - d * (k - 1) - 1) // s + 1)
        pixels.append(np.arange(k)[:, None] * d + np.arange(count[-1]) * s - p)
    return list(kernel), count, pixels


def _unfold(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    """Patches to columns (im2col); the index of a column is channel, tap row, tap column."""
    image, out = given["self"], field(given["self"])
    kernel, count, pixels = _steps(given, image.shape[-2:])
    for i, table in ((-2, pixels[0]), (-1, pixels[1])):
        out = gather(out, i, table.ravel())
    sides = [(k, m) if n > 1 else (1, 1) for n, k, m in zip(out.shape[-2:], kernel, count, strict=True)]
    out = out.reshape(*out.shape[:-2], *sides[0], *sides[1]).swapaxes(-3, -2)
    old = (*image.shape[:-2], *kernel, *count)
    return regroup(out, old, shape)


def _fold(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    """Columns added back to the patches they came from (col2im)."""
    kernel, count, pixels = _steps(given, given["output_size"])
    split = (*shape[:-2], *kernel, *count)
    out = regroup(field(given["self"]), given["self"].shape, split)
    for i, table in ((-4, pixels[0]), (-3, pixels[1])):  # the tap's dim, then the windows' dim two places later
        taps, windows = table.shape
        whole = list(out.shape)
        whole[i], whole[i + 2] = taps, windows
        out = np.broadcast_to(out, room(whole))
        placed = np.full((*whole[: i + 2], shape[i + 2], *whole[i + 3 :])[: len(whole)], NothingSeen, dtype=np.int32)
        placed = placed.take([0], axis=i)
        for tap in range(taps):
            valid = (table[tap] >= 0) & (table[tap] < placed.shape[i + 2])
            at = (Ellipsis, table[tap][valid], *(slice(None),) * (-i - 3))
            placed[at] = np.minimum(placed[at], out.take([tap], axis=i)[(Ellipsis, valid, *(slice(None),) * (-i - 3))])
        out = placed
    return narrow(out.reshape(*out.shape[:-4], *out.shape[-2:]), range(len(shape)))


def _refuse(why: str) -> Rule:
    def rule(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
        raise NoRule(why)

    return rule


def _strided(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    """Torch itself calls it after pooling to one pixel, where it moves nothing, to set the order in memory."""
    out = field(given["self"])
    if out.size == 2:
        return out.reshape(2, *(1,) * len(shape))
    if out.shape[1:] != (1, shape[1], 1, 1) or shape != (1, shape[1], 1, 1):
        raise NoRule(
            "expected views by slices, unfold or reshape, got as_strided (or squeeze_); write it with one of these"
        )
    return out


def _real(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    return field(given["self"])[..., None]


def _imaginary(given: dict[str, Any], shape: tuple[int, ...], field: Any) -> Array:
    return field(given["self"]).min(axis=-1)


COMPUTED = "got {}, whose positions are data; measure the parts of the module before and after it"

MOVES: dict[str, Rule] = {
    **dict.fromkeys(["view", "_unsafe_view", "reshape", "_reshape_alias"], _same),
    "cat": _cat, "stack": _cat,
    "constant_pad_nd": _pad("zeros"),
    **dict.fromkeys(["reflection_pad1d", "reflection_pad2d"], _pad("reflect")),
    **dict.fromkeys(["replication_pad1d", "replication_pad2d"], _pad("replicate")),
    "roll": _roll, "flip": _flip, "rot90": _rot90, "repeat": _repeat,
    "index": _index, "index_select": _index, "gather": _choose,
    "slice_scatter": _scatter, "select_scatter": _scatter,
    "pixel_shuffle": _shuffle, "pixel_unshuffle": _shuffle, "channel_shuffle": _shuffle,
    "im2col": _unfold, "col2im": _fold,
    "glu": _glu, "copy": _copy, "copy_": _copy, "fill": _copy, "zero": _copy,
    "view_as_real": _real, "view_as_complex": _imaginary,
    "as_strided": _strided, "as_strided_": _strided,
    **{
        name: _refuse("expected operations that read and write at fixed positions, " + COMPUTED.format(name))
        for name in ("max_unpool2d", "fractional_max_pool2d", "grid_sampler_2d", "scatter", "scatter_add",
                     "scatter_reduce", "index_put")
    },
}  # fmt: skip
