"""Checks of the lesson *Looking inside*."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cvbook.checks.verdict import Wrong, equal, exercise

__all__ = ["class_activation_map", "contrast", "delete", "occlusion_map", "restore"]


@exercise("Undo the preprocessing")
def restore(answer: Callable[[Tensor], Tensor]) -> str:
    """``answer(x)`` turns prepared images ``(255 p - 127) / 128`` back into pixels ``p`` in [0, 1]."""
    for shape in ((2, 3, 5, 7), (1, 3, 4, 4)):
        p = torch.rand(shape)
        x = (255 * p - 127) / 128
        got = _run(answer, x)
        mistakes = {
            "this is on the scale 0 to 255; divide by 255": 255 * p,
            "nothing is undone: this is x itself": x,
            "this prepares once more; solve for p instead": (255 * x - 127) / 128,
            "add 127 after you multiply by 128, not before": (x + 127) * 128 / 255,
            "the offset 127 is missing": 128 * x / 255,
            "the factor is 128, and only then divide by 255": (255 * x + 127) / 255,
            "(x + 1) / 2 is close, but the range is -127/128 to 1": (x + 1) / 2,
            "the channels changed their order": p.flip(1),
        }
        equal(got, p, mistakes=_known(mistakes), what=f"images of shape {shape}")
    return "right: now every picture that a network sees can be drawn"


@exercise("An occlusion map")
def occlusion_map(answer: Callable[..., Tensor]) -> str:
    """``answer(model, x, target, patch, stride)``: how much the target's probability drops, patch filled with 0."""
    for (H, W), patch, stride, corner in (((8, 12), 4, 2, (0, 8)), ((12, 9), 3, 3, (9, 0)), ((6, 6), 3, 1, (1, 2))):
        model = _CornerReader(corner, patch)
        x = torch.rand(1, 1, H, W) + 0.5
        for target in (1, 2):
            got = _run(answer, model, x, target, patch, stride)
            logits = _covered(model, x, patch, stride)
            p = model(x).softmax(1)[0, target]
            expected = p - logits.softmax(-1)[..., target]
            kept = _covered(model, x, patch, stride, restore=False)
            average = _covered(model, x, patch, stride, fill=float(x.mean()))
            dense = _covered(model, x, patch, 1)
            mistakes = {
                "the patches stay: start each position from a fresh copy of x": p - kept.softmax(-1)[..., target],
                "this is the probability under the patch; the map shows the drop, p(x) - p(covered x)": p - expected,
                "the sign is reversed: a drop is p(x) - p(covered x), positive where covering hurts": -expected,
                "rows and columns are swapped: the first index is the row": expected.T,
                "this is the drop of the logit; take softmax first": model(x)[0, target] - logits[..., target],
                "fill the patch with 0, not with the mean of the image": p - average.softmax(-1)[..., target],
                "this is the map of class 0; use target": model(x).softmax(1)[0, 0] - logits.softmax(-1)[..., 0],
                "the patch moves by one pixel; it moves by stride": p - dense.softmax(-1)[..., target],
                "the last row or column of positions is missing; the patch may touch the border": expected[:-1, :-1],
            }
            what = f"an image of {H}x{W} pixels, patch {patch}, stride {stride}, class {target}"
            equal(got, expected, mistakes=_known(mistakes), what=what)
    return "right: the map is bright exactly where the model reads, and you know that because you built the model"


@exercise("CAM without a gradient")
def class_activation_map(answer: Callable[[Tensor, Tensor, int], Tensor]) -> str:
    """``answer(maps, weight, target)``: Grad-CAM before its ReLU for ``logits = weight @ maps.mean((1, 2)) + bias``."""
    for K, C, h, w in ((5, 4, 3, 6), (4, 4, 5, 2)):
        maps, weight, bias = torch.randn(C, h, w), torch.randn(K, C), torch.randn(K)
        for target in (0, K - 1):
            free = maps.clone().requires_grad_()
            logit = (weight @ free.mean((1, 2)) + bias)[target]
            (gradient,) = torch.autograd.grad(logit, free)
            expected = (gradient.mean((1, 2))[:, None, None] * maps).sum(0)
            cam = expected * h * w
            mistakes = {
                "this is CAM itself; the mean over positions puts a factor 1/(h w) into the gradient": cam,
                "this averages over the channels; the sum over channels has no factor": expected / C,
                "the weights of class 0 were used; take row target": (weight[0][:, None, None] * maps).sum(0) / (h * w),
                "the ReLU is applied; asked is the map before it": expected.relu(),
                "the ReLU is applied, and the factor 1/(h w) is missing": cam.relu(),
                "the bias has no gradient with respect to the maps, so it is not in the map": expected + bias[target],
                "the maps are not summed over the channels": weight[target][:, None, None] * maps / (h * w),
            }
            if K == C:
                column = (weight[:, target][:, None, None] * maps).sum(0)
                key = "weight is (classes, channels): take the row of the class, not a column"
                mistakes |= {key: column / (h * w), key + " (and divide by h w)": column}
            got = _run(answer, maps, weight, target)
            equal(got, expected, mistakes=_known(mistakes), what=f"{C} maps of {h}x{w} and class {target} of {K}")
    return "right: with a global average before the linear layer, Grad-CAM is CAM divided by the number of positions"


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
        equal(_run(answer, model, x, a, b, model[1]), expected, mistakes=_known(mistakes), what=f"{size}x{size} pixels")
    return "right: the gradient of a difference is the difference of the gradients"


@exercise("Delete what the map points at")
def delete(answer: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """``answer(x, heat, share)``: a copy of x in which the share of pixels with the largest heat is 0."""
    for H, W, share in ((6, 8, 0.25), (5, 10, 0.1), (4, 4, 0.5)):
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
            "the sizes of the heat count, not their signs: negative heat is covered too": cover(
                heat.abs().flatten().argsort(descending=True)[:n]
            ),
            "the covered pixels get the value 0, not the mean": cover(order[:n], fill=float(x.mean())),
        }
        what = f"{H}x{W} pixels and share {share}"
        equal(_run(answer, x, heat, share), cover(order[:n]), mistakes=_known(mistakes), what=what)
    return "right: now a map can be tested, not only looked at"


class _CornerReader(nn.Module):
    """Three classes whose logits depend on the mean of one square of the image, and on nothing else."""

    def __init__(self, corner: tuple[int, int], side: int) -> None:
        super().__init__()
        self.corner, self.side = corner, side

    def forward(self, x: Tensor) -> Tensor:
        top, left = self.corner
        seen = x[:, 0, top : top + self.side, left : left + self.side].mean((1, 2))
        return torch.stack([0 * seen, 3 * seen - 1, 0.5 * seen], 1)


def _covered(
    model: nn.Module, x: Tensor, patch: int, stride: int, *, fill: float = 0.0, restore: bool = True
) -> Tensor:
    H, W = x.shape[2:]
    rows, now = [], x.clone()
    for top in range(0, H - patch + 1, stride):
        row = []
        for left in range(0, W - patch + 1, stride):
            now = x.clone() if restore else now
            now[:, :, top : top + patch, left : left + patch] = fill
            row.append(model(now)[0])
        rows.append(torch.stack(row))
    return torch.stack(rows).detach()


def _run(answer: Callable[..., object], *arguments: object) -> object:
    """Call the answer; refuse one that changes the tensors it was given."""
    tensors = [a for a in arguments if isinstance(a, Tensor)]
    before = [a.clone() for a in tensors]
    result = answer(*arguments)
    if not all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True)):
        raise Wrong("your code changes a tensor that it was given; work on a copy: x.clone()")
    return result


def _known(mistakes: dict) -> dict[str, Callable[[], object]]:
    """Results of known mistakes, in the form that `equal` takes."""

    def result(value: object) -> Callable[[], object]:
        return value if callable(value) else lambda: value

    return {sentence: result(value) for sentence, value in mistakes.items()}
