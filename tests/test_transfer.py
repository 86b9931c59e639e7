"""Loading torchvision's weights: what fits is copied, what does not is refused, and nothing in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision.models as tv
from torch import Tensor, nn

from cvbook import cnns
from cvbook.cnns import alexnet, googlenet, lenet5, mobilenet_v2, resnet18, resnet34, resnet101
from cvbook.transfer import _pairs, load_torchvision

State = dict[str, Tensor]


def on_meta(builder: Callable[..., nn.Module], **options: object) -> nn.Module:
    with torch.device("meta"):
        return builder(**options)


def random_state(builder: Callable[..., nn.Module], **options: object) -> State:
    """A state dict of torchvision's network with a random number everywhere."""
    torch.manual_seed(0)
    state = on_meta(builder, **options).state_dict()
    return {k: torch.rand(v.shape) if v.is_floating_point() else torch.tensor(7) for k, v in state.items()}


def snapshot(model: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", [name for name in cnns.__all__ if hasattr(tv, name)])
def test_every_builder_has_the_layers_of_torchvision(name: str) -> None:
    our, their = on_meta(getattr(cnns, name)).state_dict(), on_meta(getattr(tv, name), **no_init(name)).state_dict()
    pairs = _pairs(our, their)
    assert [a for a, _ in pairs if "num_batches" not in a] == [a for a in our if "num_batches" not in a]
    assert sorted(b for _, b in pairs) == sorted(their)
    assert all(our[a].shape == their[b].shape for a, b in pairs)


def no_init(name: str) -> dict[str, object]:
    return {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}


@pytest.mark.parametrize("half", [False, True])
def test_copies_every_tensor(half: bool) -> None:
    theirs = tv.resnet18(num_classes=10).eval()
    state = random_state(tv.resnet18, num_classes=10)
    theirs.load_state_dict(state)
    model = resnet18(num_classes=10)
    if half:
        state = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
        theirs.load_state_dict(state)
    assert load_torchvision(model, state) is model
    assert {t.dtype for t in model.parameters()} == {torch.float32}
    assert model.training
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), theirs(x))
    assert model.bn1.num_batches_tracked == 7


def test_torchvision_may_share_no_memory_with_the_model() -> None:
    state = random_state(tv.mobilenet_v2, num_classes=3)
    model = load_torchvision(mobilenet_v2(num_classes=3), state)
    for tensor in state.values():
        tensor.zero_()
    assert all(p.any() for p in model.parameters())
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())


def test_old_files_have_no_counters_and_another_order() -> None:
    """As those of 2017: statistics before weights, and names with one more dot."""
    state, old = random_state(tv.densenet121, num_classes=5), {}
    layers: dict[str, list[str]] = {}
    for name in state:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    for names in layers.values():
        for name in reversed(names):
            if not name.endswith("num_batches_tracked"):
                old[name.replace("norm1", "norm.1").replace("conv2", "conv.2")] = state[name]
    assert list(old) != [name for name in state if not name.endswith("tracked")]
    new, model = (cnns.densenet121(num_classes=5) for _ in range(2))
    load_torchvision(new, state)
    load_torchvision(model, old)
    for a, b in zip(model.parameters(), new.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not model.features[0][1].num_batches_tracked


@pytest.mark.parametrize("aux", [False, True])
def test_auxiliary_classifiers_are_left_out_where_there_are_none(aux: bool) -> None:
    state = random_state(tv.googlenet, num_classes=3, init_weights=False, aux_logits=True)
    model = load_torchvision(googlenet(num_classes=3, aux=aux), state)
    assert torch.equal(model.fc.weight, state["fc.weight"])
    if aux:
        assert torch.equal(model.aux2.fc1.weight, state["aux2.fc1.weight"])


REFUSED: dict[str, tuple[Callable[[], nn.Module], Callable[[], State], str]] = {
    "deeper": (
        lambda: resnet18(num_classes=2),
        lambda: random_state(tv.resnet34, num_classes=2),
        r"expected stages.1.0.conv1.weight \(128, 64, 3, 3\), got layer1.2.conv1.weight \(64, 64, 3, 3\) \(the model "
        r"has 102 tensors, the state dict 182\); this looks like the state dict of another network$",
    ),
    "shallower": (
        lambda: resnet34(num_classes=2),
        lambda: random_state(tv.resnet18, num_classes=2),
        "this looks like the state dict of another network$",
    ),
    "another": (lambda: resnet18(num_classes=2), lambda: random_state(tv.vgg11, num_classes=2), "another network$"),
    "a transformer": (
        lambda: resnet18(num_classes=2),
        lambda: random_state(tv.vit_b_32),
        r"got class_token \(1, 1, 768\) .* another network$",
    ),
    "classes": (
        lambda: resnet18(num_classes=2),
        lambda: random_state(tv.resnet18),
        r"expected fc.weight \(2, 512\), got fc.weight \(1000, 512\) .*; build the model with num_classes=1000, load, "
        "and replace the layer afterwards$",
    ),
    "channels": (
        lambda: resnet18(num_classes=2, in_channels=1),
        lambda: random_state(tv.resnet18),
        r"expected conv1.weight \(64, 1, 7, 7\), got conv1.weight \(64, 3, 7, 7\) .*; build the model with "
        "in_channels=3 and num_classes=1000, load",
    ),
    "kernels": (
        lambda: googlenet(five=True),
        lambda: random_state(tv.googlenet, init_weights=False, aux_logits=True),
        r"expected inception3a.branch3.1.conv.weight \(32, 16, 5, 5\), got inception3a.branch3.1.conv.weight "
        r"\(32, 16, 3, 3\) .* another network$",
    ),
    "one too many": (
        lambda: resnet18(num_classes=2),
        lambda: random_state(tv.resnet18, num_classes=2) | {"more.weight": torch.ones(3)},
        r"expected nothing more, got more.weight \(3,\) \(the model has 102 tensors, the state dict 103\); one is too "
        r"many: pass all of the state_dict\(\) of torchvision's model$",
    ),
    "one too few": (
        lambda: resnet18(num_classes=2),
        lambda: dict(list(random_state(tv.resnet18, num_classes=2).items())[:-1]),
        r"expected fc.bias \(2,\), got nothing more \(the model has 102 tensors, the state dict 101\); one is missing",
    ),
    "bias": (
        lambda: cnns.vgg11(num_classes=2, batch_norm=True),
        lambda: random_state(tv.vgg11, num_classes=2),
        r"expected features.1.weight \(64,\), got features.3.weight \(128, 64, 3, 3\)",
    ),
    "empty": (lambda: lenet5(), lambda: {}, r"got nothing more \(the model has 10 tensors, the state dict 0\)"),
    "sorted": (
        lambda: resnet18(num_classes=2),
        lambda: dict(sorted(random_state(tv.resnet18, num_classes=2).items())),
        r"sorted by name; load them into torchvision's model and pass its state_dict\(\)$",
    ),
    "heads of another": (
        lambda: resnet18(num_classes=2),
        lambda: random_state(tv.resnet18, num_classes=2) | {"aux1.weight": torch.ones(3)},
        r"expected nothing more, got aux1.weight \(3,\)",
    ),
    "a counter too many": (
        lambda: resnet18(num_classes=2),
        lambda: random_state(tv.resnet18, num_classes=2) | {"bn9.num_batches_tracked": torch.tensor(0)},
        "expected num_batches_tracked of batch normalizations only, got bn9.num_batches_tracked; leave it out",
    ),
    "twins swapped": (
        lambda: resnet18(num_classes=2),
        lambda: exchanged(random_state(tv.resnet18, num_classes=2), "layer1.0.conv1.weight", "layer1.0.conv2.weight"),
        "expected tensors in the order of torchvision's layers, got layer1.0.conv2 before layer1.0.conv1; load them",
    ),
    "layers swapped": (
        lambda: resnet101(num_classes=2),
        lambda: swapped(random_state(tv.resnet101, num_classes=2)),
        "expected tensors in the order of torchvision's layers, got layer3.10 before layer3.2; load them",
    ),
}  # fmt: skip


def exchanged(state: State, a: str, b: str) -> State:
    """The same names and tensors, two of them in each other's place."""
    names = [{a: b, b: a}.get(name, name) for name in state]
    return {name: state[name] for name in names}


def swapped(state: State) -> State:
    """Whole blocks of the same shapes in another order: shapes alone would not tell."""
    blocks = [name for name in state if name.startswith("layer3.10.")]
    items = [item for item in state.items() if item[0] not in blocks]
    place = [name for name, _ in items].index("layer3.2.conv1.weight")
    return dict(items[:place] + [(name, state[name]) for name in blocks] + items[place:])


@pytest.mark.parametrize(("build", "state", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_leaves_the_model_as_it_was(
    build: Callable[[], nn.Module], state: Callable[[], State], message: str
) -> None:
    model = build()
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        load_torchvision(model, state())
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_tensors_need_values() -> None:
    state = random_state(tv.resnet18)
    with pytest.raises(ValueError, match="meta device; build both on the CPU"):
        load_torchvision(on_meta(resnet18), state)
    with pytest.raises(ValueError, match="meta device; build both on the CPU"):
        load_torchvision(resnet18(), on_meta(tv.resnet18).state_dict())


def test_wrong_types() -> None:
    model = lenet5()
    with pytest.raises(TypeError, match="expected an nn.Module to fill, got function; build one with cvbook.cnns"):
        load_torchvision(alexnet, {})  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"expected a state dict, got LeNet5; pass its state_dict\(\)"):
        load_torchvision(model, model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a state dict, got str; load the file with torch.load first"):
        load_torchvision(model, "weights.pth")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got dict as 'state_dict'; pass the dict under 'state_dict'"):
        load_torchvision(model, {"state_dict": {}, "epoch": 3})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=r"got int as 'epoch'; pass model.state_dict\(\)"):
        load_torchvision(model, {"epoch": 3})  # type: ignore[dict-item]
