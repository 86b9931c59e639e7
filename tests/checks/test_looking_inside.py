"""The checks of *Looking inside* accept right answers and name the mistakes of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cvbook import inside
from cvbook.checks import looking_inside as checks

# --- from one contract to the other


def lite(p):
    return (255 * p - 127) / 128


def translated(x, mean, std):
    return lite(x * std[:, None, None] + mean[:, None, None])


def translated_by_channel(x, mean, std):
    y = x.clone()
    for c in range(3):
        y[:, c] = (x[:, c] * std[c] + mean[c]) * (255 / 128) - 127 / 128
    return y.numpy()


@pytest.mark.parametrize("answer", [translated, translated_by_channel])
def test_translate_accepts(answer: Any) -> None:
    assert checks.translate(answer).passed


def tall(v):
    return v[:, None, None]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x, m, s: x, "nothing changed"),
        (lambda x, m, s: x * tall(s) + tall(m), "these are the pixels"),
        (lambda x, m, s: lite(x), "not turned back"),
        (lambda x, m, s: lite((x - tall(m)) / tall(s)), "applied once more"),
        (lambda x, m, s: lite((x + tall(m)) * tall(s)), "multiply by std, then"),
        (lambda x, m, s: lite(x * tall(s)), "mean is missing"),
        (lambda x, m, s: lite(x + tall(m)), "std is missing"),
        (lambda x, m, s: 2 * (x * tall(s) + tall(m)) - 1, "is close"),
        (lambda x, m, s: (128 * (x * tall(s) + tall(m)) - 127) / 255, "other way round"),
        (lambda x, m, s: lite(x * s + m), "view them as (3, 1, 1)"),
        (lambda x, m, s: translated(x, m, s).flip(1), "order"),
        (lambda x, m, s: x.copy_(translated(x, m, s)), "changes a tensor"),
        (lambda x, m, s: torch.zeros_like(x), "zero"),
    ],
)
def test_translate_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.translate(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


# --- hide the detail


def by_loops(
    model, x, classes, patch, stride, fresh=True, fill=lambda part: part.mean((2, 3), keepdim=True), each=None
):
    rows, covered = [], x.clone()
    for top in range(0, x.shape[2] - patch + 1, stride):
        rows.append([])
        for left in range(0, x.shape[3] - patch + 1, stride):
            covered = x.clone() if fresh else covered
            part = covered[..., top : top + patch, left : left + patch]
            part[:] = fill(part)
            rows[-1].append((model(x).softmax(1) - model(covered).softmax(1))[0, classes])
    return (each or (lambda d: d.sum(-1)))(torch.stack([torch.stack(row) for row in rows]))


def in_one_batch(model, x, classes, patch, stride):
    places = [
        (t, l) for t in range(0, x.shape[2] - patch + 1, stride) for l in range(0, x.shape[3] - patch + 1, stride)
    ]
    batch = x.repeat(len(places), 1, 1, 1)
    for image, (t, l) in zip(batch, places, strict=True):
        part = image[:, t : t + patch, l : l + patch]
        image[:, t : t + patch, l : l + patch] = part.mean((1, 2), keepdim=True)
    p = torch.softmax(model(torch.cat([x, batch])), 1)[:, classes].sum(1)
    return (p[0] - p[1:]).view(1 + places[-1][0] // stride, -1).detach().numpy()


@pytest.mark.parametrize("answer", [by_loops, in_one_batch])
def test_detail_map_accepts(answer: Any) -> None:
    assert checks.detail_map(answer).passed


def only_logits(model, x, classes, patch, stride):
    rows = []
    for top in range(0, x.shape[2] - patch + 1, stride):
        rows.append([])
        for left in range(0, x.shape[3] - patch + 1, stride):
            covered = x.clone()
            part = covered[..., top : top + patch, left : left + patch]
            part[:] = part.mean((2, 3), keepdim=True)
            rows[-1].append(model(covered)[0, classes].sum())
    return torch.tensor(rows)


def in_place(model, x, classes, patch, stride):
    result = by_loops(model, x, classes, patch, stride)
    x[..., :patch, :patch] = 0
    return result


def whole(model, x, classes):
    return model(x).softmax(1)[0, classes].sum()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda *a: by_loops(*a, fresh=False), "fresh copy"),
        (lambda m, x, c, p, s: whole(m, x, c) - by_loops(m, x, c, p, s), "shows the drop"),
        (lambda *a: -by_loops(*a), "sign is reversed"),
        (lambda *a: by_loops(*a).abs(), "no abs"),
        (lambda *a: by_loops(*a).relu(), "no ReLU"),
        (lambda m, x, c, p, s: by_loops(m, x, c, p, s) / whole(m, x, c), "relative drop"),
        (lambda *a: by_loops(*a).T, "swapped"),
        (lambda *a: by_loops(*a, fill=torch.zeros_like), "filled with 0"),
        (lambda *a: by_loops(*a, fill=torch.ones_like), "filled with 1"),
        (lambda *a: by_loops(*a, fill=lambda part: a[1].mean((2, 3), keepdim=True)), "mean of the whole image"),
        (lambda *a: by_loops(*a, fill=torch.mean), "each channel has its own"),
        (lambda *a: by_loops(*a, each=lambda d: d[..., 0]), "only the first"),
        (lambda *a: by_loops(*a, each=lambda d: d.mean(-1)), "mean over the classes"),
        (lambda m, x, c, p, s: by_loops(m, x, [int(m(x).argmax())], p, s), "most probable class"),
        (lambda m, x, c, p, s: by_loops(m, x, c, p, 1), "moves by stride"),
        (only_logits, "these are logits"),
        (lambda *a: by_loops(*a)[:-1, :-1], "may touch the border"),
        (lambda *a: torch.zeros_like(by_loops(*a)), "zero"),
        (in_place, "changes a tensor"),
    ],
)
def test_detail_map_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.detail_map(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


# --- Grad-CAM without an average


def cam(maps, weight, target):
    return torch.einsum("cn,chw->hw", weight[target].view(len(maps), -1), maps) / maps[0].numel()


def cam_by_gradient(maps, weight, target):
    free = maps.clone().requires_grad_()
    (weight @ free.flatten())[target].backward()
    return (free.grad.mean((1, 2), keepdim=True) * maps).sum(0)


@pytest.mark.parametrize("answer", [cam, cam_by_gradient])
def test_flat_cam_accepts(answer: Any) -> None:
    assert checks.flat_cam(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda m, w, t: (w[t].view(m.shape) * m).sum(0), "exact shares"),
        (lambda m, w, t: cam(m, w, t) * m[0].numel(), "adds up the weights"),
        (lambda m, w, t: cam(m, w, t) / m[0].numel(), "too many"),
        (lambda m, w, t: w[t].mean() * m.sum(0), "one mean over all"),
        (lambda m, w, t: (w[t].view(-1, len(m)).mean(0)[:, None, None] * m).sum(0), "view the row of weight as"),
        (lambda m, w, t: cam(m, w, t).relu(), "ReLU is applied"),
        (lambda m, w, t: cam(m, w, 0), "row target"),
        (lambda m, w, t: cam(m, w, t) / len(m), "averages over the channels"),
        (lambda m, w, t: w[t].view(m.shape).mean((1, 2), keepdim=True) * m, "not summed"),
        (lambda m, w, t: torch.zeros_like(m[0]), "zero"),
    ],
)
def test_flat_cam_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.flat_cam(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


# --- contrast


def contrasted(model, x, a, b, layer):
    return inside.grad_cam(model, x, a, layer, relu=False) - inside.grad_cam(model, x, b, layer, relu=False)


def contrasted_at_once(model, x, a, b, layer):
    kept = []
    hook = layer.register_forward_hook(lambda *call: kept.append(call[2]))
    logits = model(x)[0]
    hook.remove()
    (gradient,) = torch.autograd.grad(logits[a] - logits[b], kept[0])
    return F.relu((gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0]) - F.relu(
        -(gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0]
    )


@pytest.mark.parametrize("answer", [contrasted, contrasted_at_once])
def test_contrast_accepts(answer: Any) -> None:
    assert checks.contrast(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda m, x, a, b, layer: contrasted(m, x, b, a, layer), "swapped"),
        (lambda m, x, a, b, layer: inside.grad_cam(m, x, a, layer, relu=False), "of a alone"),
        (
            lambda m, x, a, b, layer: inside.grad_cam(m, x, a, layer) - inside.grad_cam(m, x, b, layer),
            "before the difference",
        ),
        (lambda *a: contrasted(*a).relu(), "before the ReLU"),
        (lambda *a: torch.zeros_like(contrasted(*a)), "zero"),
    ],
)
def test_contrast_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.contrast(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


# --- deletion


def deleted(x, heat, share, largest=True):
    places = heat.flatten().topk(round(share * heat.numel()), largest=largest).indices
    result = x.clone().flatten(2)
    result[..., places] = 0
    return result.view_as(x)


def cut(x, heat, count):
    result = x.clone()
    result.flatten(2)[..., heat.flatten().topk(count).indices] = 0
    return result


def deleted_by_threshold(x, heat, share):
    limit = heat.flatten().sort(descending=True).values[round(share * heat.numel()) - 1]
    return torch.where(heat >= limit, 0.0, x)


@pytest.mark.parametrize("answer", [deleted, deleted_by_threshold])
def test_delete_accepts(answer: Any) -> None:
    assert checks.delete(answer).passed


def delete_in_place(x, heat, share):
    x[:] = deleted(x, heat, share)
    return x


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda *a: deleted(*a, largest=False), "take the largest"),
        (lambda x, heat, share: x - deleted(x, heat, share), "keeps the hot pixels"),
        (lambda x, heat, share: torch.where(heat >= (1 - share) * heat.max(), 0.0, x), "share of the pixels"),
        (lambda x, heat, share: torch.where(heat >= share * heat.max(), 0.0, x), "heat >= share"),
        (lambda x, heat, share: cut(x, heat, int(share * heat.numel())), "int cuts"),
        (lambda x, heat, share: cut(x, heat, int(share * heat.numel()) + 1), "one pixel too many"),
        (lambda x, heat, share: deleted(x, heat.abs(), share), "not their signs"),
        (lambda x, heat, share: torch.cat([deleted(x, heat, share)[:, :1], x[:, 1:]], 1), "first channel"),
        (delete_in_place, "changes a tensor"),
        (lambda x, heat, share: torch.zeros_like(x), "zero"),
    ],
)
def test_delete_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.delete(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


@pytest.mark.parametrize("name", checks.__all__)
def test_stubs_are_not_attempted(name: str) -> None:
    check = getattr(checks, name)
    assert check(None).state == "not attempted"
    assert check(lambda *arguments: ...).state == "not attempted"
    assert check(lambda *arguments: None).state == "not attempted"
