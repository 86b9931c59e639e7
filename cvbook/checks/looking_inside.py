"""Checks of the lesson *Looking inside*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cvbook.checks.answers import unchanged
from cvbook.checks.verdict import equal, exercise

__all__ = ["contrast", "delete", "detail_map", "flat_cam", "translate"]


@exercise("From one contract to the other")
def translate(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """``answer(x, mean, std)``: images prepared as ``(p - mean) / std`` become images ``(255 p - 127) / 128``."""
    for shape in ((2, 3, 5, 3), (1, 3, 4, 7)):  # first a width of 3, where numbers for channels fit columns, too
        p, mean, std = torch.rand(shape), 0.3 + 0.3 * torch.rand(3), 0.2 + 0.1 * torch.rand(3)
        m, s = mean.view(3, 1, 1), std.view(3, 1, 1)
        x = (p - m) / s
        got = unchanged(answer, x, mean, std)

        def lite(p: Tensor) -> Tensor:
            return (255 * p - 127) / 128

        mistakes = {
            "nothing changed: this is x itself": x,
            "these are the pixels p; prepare them once more, as (255 p - 127) / 128": p,
            "this is on the scale 0 to 255; subtract 127 and divide by 128": 255 * p,
            "x was not turned back into pixels first: p = std * x + mean": lite(x),
            "mean and std are applied once more; undo them: p = std * x + mean": lite((x - m) / s),
            "undo the last step first: multiply by std, then add mean": lite((x + m) * s),
            "mean is missing": lite(x * s),
            "std is missing": lite(x + m),
            "2 p - 1 is close, but the contract says (255 p - 127) / 128": 2 * p - 1,
            "the factor is 255 and the divisor 128, not the other way round": (128 * p - 127) / 255,
            "127 is subtracted, not added": (255 * p + 127) / 128,
            "mean and std belong to channels, but meet the columns: view them as (3, 1, 1)": (
                lite(x * std + mean) if shape[-1] == 3 else x
            ),
            "the channels changed their order": lite(p).flip(1),
        }
        equal(got, lite(p), mistakes=mistakes, what=f"images of shape {shape}")
    return "right: undo one contract, last step first, then keep the other"


@exercise("Hide the detail, keep the color")
def detail_map(answer: Callable[..., Tensor]) -> str:
    """``answer(model, x, classes, patch, stride)``: the drop of the summed probability, patch filled with its mean."""
    for (H, W), patch, stride, corner in (((8, 12), 4, 2, (0, 8)), ((12, 9), 3, 3, (9, 0)), ((6, 6), 3, 1, (1, 2))):
        model, x = _DetailReader(corner, patch), torch.randn(1, 3, H, W)
        first, second, third, fourth = model(x)[0].argsort(descending=True).tolist()
        for classes in ([second, first], [third, fourth], [third]):
            got = unchanged(answer, model, x, list(classes), patch, stride)

            def p(logits: Tensor, classes: list[int] = classes) -> Tensor:
                return logits.softmax(-1)[..., classes].sum(-1)

            whole = p(model(x)[0])

            def drop(*, x: Tensor = x, whole: Tensor = whole, model: nn.Module = model, **options: Any) -> Tensor:
                return whole - p(_covered(model, x, **options))

            cover: dict[str, Any] = {"patch": patch, "stride": stride}
            logits = _covered(model, x, **cover)
            expected, top = whole - p(logits), int(model(x).argmax())
            each = model(x)[0].softmax(-1) - logits.softmax(-1)
            mistakes = {
                "the patches stay: start each position from a fresh copy of x": drop(**cover, restore=False),
                "this is the probability under the patch; the map shows the drop, p(x) - p(changed x)": p(logits),
                "the sign is reversed: a drop is p(x) - p(changed x), positive where it hurts": -expected,
                "the sign is lost; where hiding helps, the map is negative: no abs": expected.abs(),
                "the negative part is cut off; where hiding helps, the map is negative: no ReLU": expected.relu(),
                "this is the relative drop; do not divide by p(x)": expected / whole,
                "rows and columns are swapped: the first index is the row": expected.T,
                "this is the drop of the logits; take softmax first": (model(x)[0] - logits)[..., classes].sum(-1),
                "these are logits under the patch; take softmax, then p(x) - p(changed x)": logits[..., classes].sum(
                    -1
                ),
                "the patch is filled with 0; asked is its own mean": drop(**cover, fill="zero"),
                "the patch is filled with 1; asked is its own mean": drop(**cover, fill="one"),
                "the patch is filled with the mean of the whole image; asked is the mean of what is under it": drop(
                    **cover, fill="image"
                ),
                "the three channels got one common mean; each channel has its own": drop(**cover, fill="grey"),
                "only the first of the classes counts; add up their probabilities": each[..., classes[0]],
                "this is the mean over the classes; add up their probabilities": expected / len(classes),
                "this is the largest of the drops; add up the probabilities of the classes": each[..., classes].amax(
                    -1
                ),
                "this is the map of the most probable class; use classes": each[..., top],
                "the patch moves by one pixel; it moves by stride": drop(patch=patch, stride=1),
                "the last row or column of positions is missing; the patch may touch the border": expected[:-1, :-1],
            }
            what = f"an image of {H}x{W} pixels, patch {patch}, stride {stride}, classes {classes}"
            equal(got, expected, mistakes=mistakes, what=what)
    return "right: the map answers only where the model reads, and you know that because you built the model"


@exercise("Grad-CAM without an average")
def flat_cam(answer: Callable[[Tensor, Tensor, int], Tensor]) -> str:
    """``answer(maps, weight, target)``: Grad-CAM before its ReLU for ``logits = weight @ maps.flatten() + bias``."""
    for K, C, h, w in ((5, 4, 3, 6), (4, 6, 5, 2)):
        maps, weight, bias = torch.randn(C, h, w), torch.randn(K, C * h * w), torch.randn(K)
        for target in (0, K - 1):
            free = maps.clone().requires_grad_()
            (gradient,) = torch.autograd.grad((weight @ free.flatten() + bias)[target], free)
            expected = (gradient.mean((1, 2), keepdim=True) * maps).sum(0)
            other = weight[0].view(C, h, w).mean((1, 2), keepdim=True)
            mixed = weight[target].view(h, w, C).mean((0, 1)).view(C, 1, 1)
            mistakes = {
                "these are the exact shares, weight times map at each place; Grad-CAM first takes the mean of the "
                "gradient over the places": (gradient * maps).sum(0),
                "this adds up the weights of a channel; Grad-CAM takes their mean over the places": expected * h * w,
                "there is one factor 1/(h w) too many; the mean has taken care of it": expected / (h * w),
                "every channel has its own weight; this takes one mean over all": gradient.mean() * maps.sum(0),
                "flatten() puts the channel first: view the row of weight as (C, h, w)": (mixed * maps).sum(0),
                "the row of class 0 was used; take row target": (other * maps).sum(0),
                "this averages over the channels; they are added": expected / C,
                "the maps are not summed over the channels": gradient.mean((1, 2), keepdim=True) * maps,
                "the ReLU is applied; asked is the map before it": expected.relu(),
                "the bias has no gradient with respect to the maps, so it is not in the map": expected + bias[target],
            }
            got = unchanged(answer, maps, weight, target)
            equal(got, expected, mistakes=mistakes, what=f"{C} maps of {h}x{w} and class {target} of {K}")
    return "right: one weight for each channel, and what differs from place to place is averaged away"


@exercise("Why this class and not that one")
def contrast(answer: Callable[..., Tensor]) -> str:
    """``answer(model, x, a, b, layer)``: the weighted sum of Grad-CAM, before a ReLU, for logit a minus logit b."""
    for size in (9, 12):
        model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * (size - 2) ** 2, 4)).eval()
        x, a, b = torch.randn(1, 3, size, size), 2, 1
        maps = model[:2](x).detach().requires_grad_()
        logits = model[2:](maps)[0]

        def heat(score: Tensor, maps: Tensor = maps) -> Tensor:
            (gradient,) = torch.autograd.grad(score, maps, retain_graph=True)
            return (gradient.mean((2, 3), keepdim=True) * maps).sum(1)[0].detach()

        expected, first, second = heat(logits[a] - logits[b]), heat(logits[a]), heat(logits[b])
        p = logits.softmax(0)
        mistakes = {
            "a and b are swapped: positive must speak for a": -expected,
            "this is the map of a alone; take away that of b": first,
            "the ReLU came before the difference; subtract the maps first, with relu=False": first.relu()
            - second.relu(),
            "asked is the map before the ReLU: its negative part speaks for b": expected.relu(),
            "this is the sum of both maps; take the difference": first + second,
            "the gradient is that of probabilities; take the logits": heat(p[a] - p[b]),
            "each map was scaled by its maximum before the difference; that changes the answer": (
                first / first.max() - second / second.max()
            ),
        }
        equal(unchanged(answer, model, x, a, b, model[1]), expected, mistakes=mistakes, what=f"{size}x{size} pixels")
    return "right: the gradient of a difference is the difference of the gradients"


@exercise("Delete what the map points at")
def delete(answer: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """``answer(x, heat, share)``: a copy of x in which the share of pixels with the largest heat is 0."""
    for H, W, share in ((6, 8, 0.25), (5, 10, 0.15), (5, 7, 0.25)):
        x, heat = torch.rand(1, 3, H, W) + 1, torch.randn(H, W)
        n = round(share * H * W)
        order = heat.flatten().argsort(descending=True)

        def cover(places: Tensor, x: Tensor = x, H: int = H, W: int = W, fill: float = 0.0) -> Tensor:
            gone = torch.zeros(H * W, dtype=torch.bool)
            gone[places] = True
            return x.masked_fill(gone.view(1, 1, H, W), fill)

        red = x.clone()
        red[:, 0] = cover(order[:n])[:, 0]
        mistakes = {
            "the pixels with the smallest heat are covered; take the largest": cover(order[-n:]),
            "everything else is covered: this keeps the hot pixels": cover(order[n:]),
            "only the first channel is covered; a pixel has three": red,
            "the threshold is a share of the maximum; asked is a share of the pixels": cover(
                (heat.flatten() >= (1 - share) * heat.max()).nonzero()[:, 0]
            ),
            "heat >= share * heat.max() compares with the maximum; asked is a share of the pixels": cover(
                (heat.flatten() >= share * heat.max()).nonzero()[:, 0]
            ),
            "one pixel too many; the number is round(share * H * W)": cover(order[: n + 1]),
            "int cuts the fraction off; the number is round(share * H * W)": cover(order[: int(share * H * W)]),
            "int cuts the fraction off, and one more is too many; the number is round(share * H * W)": cover(
                order[: int(share * H * W) + 1]
            ),
            "the sizes of the heat count, not their signs: negative heat is covered too": cover(
                heat.abs().flatten().argsort(descending=True)[:n]
            ),
            "the covered pixels get the value 0, not the mean": cover(order[:n], fill=float(x.mean())),
        }
        what = f"{H}x{W} pixels and share {share}"
        equal(unchanged(answer, x, heat, share), cover(order[:n]), mistakes=mistakes, what=what)
    return "right: now a map can be tested, not only looked at"


class _DetailReader(nn.Module):
    """Four classes whose logits depend on the mean cube of one square of the image, and on nothing else."""

    def __init__(self, corner: tuple[int, int], side: int) -> None:
        super().__init__()
        self.corner, self.side = corner, side

    def forward(self, x: Tensor) -> Tensor:
        top, left = self.corner
        part = x[:, :, top : top + self.side, left : left + self.side].pow(3).mean((2, 3))
        seen = part @ torch.tensor([0.5, 1.0, 1.5])
        return torch.stack([0 * seen, seen - 1, 0.5 * seen, -0.3 * seen], 1)


def _covered(
    model: nn.Module, x: Tensor, *, patch: int, stride: int, fill: str = "own", restore: bool = True
) -> Tensor:
    H, W = x.shape[2:]
    rows, now = [], x.clone()
    for top in range(0, H - patch + 1, stride):
        row = []
        for left in range(0, W - patch + 1, stride):
            now = x.clone() if restore else now
            part = now[:, :, top : top + patch, left : left + patch]
            values: dict[str, Any] = {
                "zero": 0.0,
                "one": 1.0,
                "image": x.mean((2, 3), keepdim=True),
                "grey": part.mean(),
            }
            part[:] = values.get(fill, part.mean((2, 3), keepdim=True))
            row.append(model(now)[0])
        rows.append(torch.stack(row))
    return torch.stack(rows).detach()
