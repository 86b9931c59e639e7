"""Checks of the lesson *Inductive bias*."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["as_matrix", "counts", "follow", "indifferent"]


@exercise("Counting parameters")
def counts(convolution: int, dense: int) -> str:
    """The parameters of a 3x3 convolution from 1 to 16 channels on 8x8 pixels, and of a dense layer in its place."""
    if (convolution, dense) == (66_560, 160):
        raise Wrong("the two answers are swapped: the convolution shares its weights and has far fewer")
    for name, got, right, mistakes in (
        (
            "convolution",
            convolution,
            160,
            {
                144: "the convolution also has a bias for each of its 16 output channels",
                145: "the convolution has one bias for each of its 16 output channels, not one in all",
                10_240: "the kernel is shared: it is not stored again at each of the 64 positions",
                9_216: "the kernel is shared: it is not stored again at each of the 64 positions, and there are biases",
            },
        ),
        (
            "dense layer",
            dense,
            66_560,
            {
                65_536: "the dense layer also has a bias for each of its 1024 outputs",
                65_537: "the dense layer has one bias for each of its 1024 outputs, not one in all",
                65_552: "the dense layer has a bias for each of its 1024 outputs, not for each channel",
                1_040: "the dense layer must produce all 16 channels at all 64 positions: 1024 outputs, not 16",
                4_160: "the dense layer must produce 16 channels at each of the 64 positions, not one",
            },
        ),
    ):
        if got != right:
            raise Wrong(mistakes.get(int(got), f"the {name} has another number of parameters than {got}"))
    return "160 against 66 560"


@exercise("Following the shuffle")
def follow(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """``answer(weight, permutation)`` returns the weight that undoes ``x[:, permutation]``."""
    weight, images = torch.randn(5, 12), torch.randn(7, 12)
    permutation = torch.randperm(12)
    got = answer(weight.clone(), permutation.clone())
    equal(
        got,
        weight[:, permutation],
        mistakes={
            "this is the inverse permutation: input i of the shuffled image is pixel permutation[i], so column i of "
            "the new weight is column permutation[i] of the old": lambda: weight[:, permutation.argsort()],
            "the weight is unchanged, so every input meets the weight of another pixel": lambda: weight,
            "the columns belong to the inputs; you have shuffled something else": lambda: weight[
                torch.randperm(5, generator=torch.Generator().manual_seed(0))
            ],
        },
        what="a weight (5, 12) and a permutation of 12 pixels",
    )
    difference = (images[:, permutation] @ torch.as_tensor(got).T - images @ weight.T).abs().max()
    return f"shuffled images give the same numbers (largest difference {difference:.1g})"


@exercise("A convolution as a matrix")
def as_matrix(answer: Callable[[Tensor, int], Tensor]) -> str:
    """``answer(kernel, size)`` returns the matrix of the valid correlation of a ``size`` x ``size`` image."""

    def try_on(kernel: Tensor, size: int) -> None:
        k = len(kernel)
        try:
            got = answer(kernel.clone(), size)
        except IndexError as error:
            where = "output (i, j) is row i * (size - k + 1) + j, and pixel (a, b) is column a * size + b"
            raise Wrong(f"your code stopped with IndexError: {error}; {where}") from None
        if tuple(getattr(got, "shape", ())) == (size**2, size**2):
            raise Wrong("there is a row for each pixel; outputs are fewer, (size - k + 1)², and each has one row")
        equal(
            got,
            _matrix(kernel, size),
            mistakes={
                "this is a true convolution: the kernel is flipped": lambda: _matrix(kernel.flip(0, 1), size),
                "the kernel is transposed: rows and columns are exchanged": lambda: _matrix(kernel.T, size),
                "the matrix is transposed: rows belong to outputs, columns to inputs": lambda: _matrix(kernel, size).T,
                "a row of pixels is `size` long: pixel (i + u, j + v) is column (i + u) * size + j + v": (
                    lambda: _placed(kernel, size, size - k + 1)
                ),
                "pixels are counted column by column; count them row by row": (
                    lambda: _matrix(kernel, size).unflatten(1, (size, size)).mT.flatten(1)
                ),
                "outputs are counted column by column; count them row by row": (
                    lambda: _matrix(kernel, size).unflatten(0, (size - k + 1, -1)).transpose(0, 1).flatten(0, 1)
                ),
            },
            what=f"a {k}x{k} kernel and a {size}x{size} image",
        )

    try_on(torch.randn(2, 2), 4)
    try_on(torch.randn(3, 3), 5)
    return "each row is the same kernel, moved on"


def _matrix(kernel: Tensor, size: int) -> Tensor:
    """Column j is what the correlation makes of an image that is 1 at pixel j and 0 elsewhere."""
    basis = torch.eye(size * size, dtype=kernel.dtype).reshape(-1, 1, size, size)
    return torch.nn.functional.conv2d(basis, kernel[None, None]).flatten(1).T


def _placed(kernel: Tensor, size: int, width: int) -> Tensor:
    """The matrix by loops over outputs and kernel, for rows of ``width`` pixels."""
    k = len(kernel)
    out = size - k + 1
    matrix = torch.zeros(out**2, size**2)
    for i, j, u, v in itertools.product(range(out), range(out), range(k), range(k)):
        matrix[i * out + j, (i + u) * width + j + v] = kernel[u, v]
    return matrix


OPTIONS = {
    "mirror": True,
    "transpose": True,
    "rotate by 90 degrees": True,
    "shuffle all pixels": False,
    "shuffle inside 2x2 blocks": False,
    "swap the left and right halves": False,
}


@exercise("What does the network not notice?")
def indifferent(names: Iterable[str]) -> str:
    """The set of rearrangements that a convolutional network with a global average cannot notice."""
    chosen = set(names)
    if not chosen:
        raise NotImplementedError
    if unknown := chosen - OPTIONS.keys():
        raise Wrong(f"expected names among {', '.join(OPTIONS)}, got {sorted(unknown)[0]!r}")
    for name, fine in OPTIONS.items():
        if name in chosen and not fine:
            raise Wrong(f"{name!r} takes neighbors apart: no kernel on the new image sees what one saw on the old")
        if name not in chosen and fine:
            raise Wrong(f"what about {name!r}? Do the same to every kernel and compare the two networks")
    return "the three that only turn the grid of neighbors around"
