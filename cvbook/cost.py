"""What a network costs, layer by layer: parameters, multiply-adds, and the pixels that each layer sees."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cvbook._arguments import whole
from cvbook.convolution.layerwise import layer_fields
from cvbook.convolution.running import dtype, evaluating

__all__ = ["Row", "Summary", "summary"]

HEADER = ("layer", "kind", "output", "parameters", "multiply-adds", "sees")


class Row(NamedTuple):
    """One layer, each time that it is called.

    Attributes:
        name: where it is in the model, as in ``model.get_submodule(name)``.
        kind: name of its class.
        output_shape: of its (first) output, batch included; empty if it returns no tensor.
        parameters: how many numbers it learns; 0 when the same layer is called again.
        multiply_adds: of one forward pass over the whole batch, by convolutions and matrix products. Additions of
            biases, normalization, activations and pooling are not counted.
        receptive_field: rows and columns of the input that one unit sees, ``inf`` for the whole image; None if the
            output is no map, or the field is not known.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: tuple[float, float] | None


@dataclass(frozen=True)
class Summary:
    """The rows of `summary`, with totals; prints as a table."""

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """How many numbers the model learns."""
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Of one forward pass over the whole batch."""
        return sum(row.multiply_adds for row in self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def _cells(self) -> list[tuple[str, ...]]:
        cells = [
            (r.name or "(model)", r.kind, " x ".join(map(str, r.output_shape)), _number(r.parameters),
             _number(r.multiply_adds), _extent(r.receptive_field))
            for r in self.rows
        ]  # fmt: skip
        return [*cells, ("total", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}", "")]

    def __str__(self) -> str:
        cells = [HEADER, *self._cells()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        rule = "-" * len(lines[0])
        return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:-1], rule, lines[-1]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            sides = ["left", "left", *["right"] * 4]
            return "".join(
                f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
                for cell, side in zip(cells, sides, strict=True)
            )

        *rows, total = self._cells()
        rows = [(*row[:2], row[2].removeprefix("1 x ").replace(" x ", "×"), *row[3:]) for row in rows]
        body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
        return (
            '<table class="cv-summary" style="white-space: nowrap">'
            f"<thead><tr>{line(HEADER, 'th')}</tr></thead><tbody>{body}</tbody>"
            f"<tfoot><tr>{line(total, 'th')}</tr></tfoot></table>"
        )


def _number(count: int) -> str:
    return f"{count:,}" if count else ""


def _extent(size: tuple[float, float] | None) -> str:
    if size is None:
        return "?"
    if all(math.isinf(side) for side in size):
        return "whole image"
    return " x ".join("all" if math.isinf(side) else f"{side:g}" for side in size)


def summary(model: nn.Module, input_shape: Sequence[int]) -> Summary:
    """Every layer of a network in the order of execution, with what it costs and what it sees.

    The model runs in ``eval`` mode on tensors without data (device ``meta``), so even a large one takes seconds, and
    nothing in it changes. A row stands for a call of a module that has no modules inside. Modules around them get a row
    of their own where they have parameters or matrix products of their own, so that the totals are right.

    Args:
        model: takes one tensor of images.
        input_shape: ``(C, H, W)`` of one image, or ``(B, C, H, W)`` of a batch.

    Returns:
        A `Summary`: a sequence of `Row` that prints as a table.

    Raises:
        TypeError: if ``model`` is no ``nn.Module``, or ``input_shape`` no sequence of whole numbers.
        ValueError: if ``input_shape`` is no such shape, or the model does not take it.

    >>> table = summary(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)), (3, 8, 8))
    >>> table.parameters, table.multiply_adds
    (3114, 10656)
    >>> table[0]
    Row(name='0', kind='Conv2d', output_shape=(1, 8, 6, 6), parameters=224, multiply_adds=7776, receptive_field=(3, 3))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected an nn.Module, got {type(model).__name__}; wrap functions in a module")
    if not isinstance(input_shape, Sequence) or isinstance(input_shape, str):
        kind = type(input_shape).__name__
        raise TypeError(f"expected input_shape as a tuple (C, H, W), got {kind}; pass the shape of an image")
    shape = tuple(whole("each number of input_shape", side) for side in input_shape)
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(
            f"expected input_shape (C, H, W) or (B, C, H, W) of positive numbers, got {shape}; give such a tuple"
        )
    calls = _run(model, shape if len(shape) == 4 else (1, *shape))
    try:
        sizes = [field.size if field else None for _, field in layer_fields(model, shape[-3:])]
    except NotImplementedError:  # an operation that has no rule: the costs are known all the same
        sizes = [None] * len(calls)
    parameters = _owners(model, {part for part, _, _ in calls})
    names = {part: name for name, part in model.named_modules()}
    rows = []
    for (part, output_shape, multiply_adds), size in zip(calls, sizes, strict=True):
        if not list(part.children()) or multiply_adds or part in parameters:
            count = parameters.pop(part, 0)
            rows.append(Row(names[part], type(part).__name__, output_shape, count, multiply_adds, size))
    return Summary(tuple(rows))


def _run(model: nn.Module, shape: tuple[int, ...]) -> list[tuple[nn.Module, tuple[int, ...], int]]:
    """Each call of a module, in the order in which they end: the module, the shape, its own multiply-adds."""
    calls: list[tuple[nn.Module, tuple[int, ...], int]] = []
    counter = FlopCounterMode(display=False)
    pending: list[list[int]] = []  # of the modules now running: count at the start, and what their parts counted

    def enter(_part: nn.Module, _inputs: object) -> None:
        pending.append([counter.get_total_flops(), 0])

    def leave(part: nn.Module, _inputs: object, output: object) -> None:
        start, inside = pending.pop()
        spent = counter.get_total_flops() - start
        if pending:
            pending[-1][1] += spent
        shapes = [tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        calls.append((part, shapes[0] if shapes else (), (spent - inside) // 2))

    state: dict[str, Any] = {name: t.to("meta") for name, t in (*model.named_parameters(), *model.named_buffers())}
    image = torch.empty(shape, dtype=dtype(model), device="meta")
    hooks = [
        hook
        for part in model.modules()
        for hook in (part.register_forward_pre_hook(enter), part.register_forward_hook(leave))
    ]
    try:
        with evaluating(model), torch.no_grad(), counter:
            functional_call(model, state, (image,))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"expected a model that takes images {shape}, got {reason}; give another input_shape"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _owners(model: nn.Module, called: set[nn.Module]) -> dict[nn.Module, int]:
    """How many parameters belong to each module that was called: what is not called counts for the one around it."""
    owners: dict[nn.Module, int] = {}
    for name, parameter in model.named_parameters():
        owner = model
        part = model
        for step in name.split(".")[:-1]:
            part = getattr(part, step)
            owner = part if part in called else owner
        owners[owner] = owners.get(owner, 0) + parameter.numel()
    return owners
