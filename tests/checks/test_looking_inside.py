"""The checks of *Looking inside* accept right answers and name the mistakes of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cvbook import inside
from cvbook.checks import looking_inside as checks

# --- undo the preprocessing


def restored(x):
    return (128 * x + 127) / 255


def restored_in_steps(x):
    levels = x.numpy() * 128 + 127
    return levels / 255


@pytest.mark.parametrize("answer", [restored, restored_in_steps])
def test_restore_accepts(answer: Any) -> None:
    assert checks.restore(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: 128 * x + 127, "divide by 255"),
        (lambda x: x, "nothing is undone"),
        (lambda x: (255 * x - 127) / 128, "solve for p"),
        (lambda x: (x + 1) / 2, "is close"),
        (lambda x: 128 * x / 255, "127 is missing"),
        (lambda x: restored(x).flip(1), "order"),
        (lambda x: x.mul_(128).add_(127).div_(255), "changes a tensor"),
        (torch.zeros_like, "zero"),
    ],
)
def test_restore_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.restore(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


# --- occlusion map


def by_loops(model, x, target, patch, stride, fill=0.0, fresh=True):
    p = model(x).softmax(1)[0, target]
    rows, covered = [], x.clone()
    for top in range(0, x.shape[2] - patch + 1, stride):
        rows.append([])
        for left in range(0, x.shape[3] - patch + 1, stride):
            covered = x.clone() if fresh else covered
            covered[..., top : top + patch, left : left + patch] = fill
            rows[-1].append(p - model(covered).softmax(1)[0, target])
    return torch.tensor(rows)


def by_library(model, x, target, patch, stride):
    covered = inside.occlude(model, x, patch=patch, stride=stride).softmax(-1)
    return (model(x).softmax(1) - covered)[..., target]


@pytest.mark.parametrize("answer", [by_loops, by_library])
def test_occlusion_map_accepts(answer: Any) -> None:
    assert checks.occlusion_map(answer).passed


def in_place(model, x, target, patch, stride):
    result = by_loops(model, x, target, patch, stride)
    x[..., :patch, :patch] = 0
    return result


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda *a: by_loops(*a, fresh=False), "fresh copy"),
        (lambda m, x, t, p, s: m(x).softmax(1)[0, t] - by_loops(m, x, t, p, s), "shows the drop"),
        (lambda *a: -by_loops(*a), "sign is reversed"),
        (lambda *a: by_loops(*a).T, "swapped"),
        (lambda m, x, t, p, s: (m(x) - inside.occlude(m, x, patch=p, stride=s))[..., t], "softmax first"),
        (lambda m, x, t, p, s: by_loops(m, x, t, p, s, fill=float(x.mean())), "fill the patch with 0"),
        (lambda m, x, t, p, s: by_loops(m, x, t, p, 1), "moves by stride"),
        (lambda m, x, t, p, s: by_loops(m, x, 0, p, s), "class 0"),
        (lambda *a: by_loops(*a)[:-1, :-1], "may touch the border"),
        (lambda *a: torch.zeros_like(by_loops(*a)), "zero"),
        (in_place, "changes a tensor"),
    ],
)
def test_occlusion_map_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.occlusion_map(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


# --- CAM


def cam(maps, weight, target):
    return torch.einsum("c,chw->hw", weight[target], maps) / maps[0].numel()


def cam_by_gradient(maps, weight, target):
    free = maps.clone().requires_grad_()
    (weight @ free.mean((1, 2)))[target].backward()
    return (free.grad.mean((1, 2), keepdim=True) * maps).sum(0)


@pytest.mark.parametrize("answer", [cam, cam_by_gradient])
def test_cam_accepts(answer: Any) -> None:
    assert checks.class_activation_map(answer).passed


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda m, w, t: cam(m, w, t) * m[0].numel(), "this is CAM itself"),
        (lambda m, w, t: cam(m, w, t).relu(), "ReLU is applied"),
        (lambda m, w, t: cam(m, w, 0), "row target"),
        (lambda m, w, t: cam(m, w, t) / len(m), "averages over the channels"),
        (lambda m, w, t: w[t][:, None, None] * m / m[0].numel(), "not summed"),
        (lambda m, w, t: torch.zeros_like(m[0]), "zero"),
    ],
)
def test_cam_names_the_mistake(answer: Any, message: str) -> None:
    verdict = checks.class_activation_map(answer)
    assert verdict.state == "wrong"
    assert message in verdict.message


def test_cam_knows_a_column_from_a_row() -> None:
    def column(maps, weight, target):
        return cam(maps, weight.T, target) if weight.shape[0] == weight.shape[1] else cam(maps, weight, target)

    assert "not a column" in checks.class_activation_map(column).message


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
