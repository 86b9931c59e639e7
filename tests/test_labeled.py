"""What the checks of training say is tested with `cvbook.train`; here is the fingerprint of the data."""

from __future__ import annotations

import pytest
import torch

from cvbook import labeled


def test_the_digest_is_of_shape_type_and_every_number() -> None:
    images, labels = torch.rand(7, 2, 3, 4), torch.arange(7)
    same = labeled.digest(images, labels)
    assert labeled.digest(images.clone().contiguous(memory_format=torch.channels_last), labels.clone()) == same
    assert labeled.digest(images.clone().requires_grad_(), labels) == same
    others = [
        (images.view(7, 2, 4, 3), labels),
        (images.double(), labels),
        (images, labels.int()),
        (images, 1 + labels),
    ]
    for place in ((0, 0, 0, 0), (6, 1, 2, 3)):
        changed = images.clone()
        changed[place] += 1
        others.append((changed, labels))
    assert len({labeled.digest(*other) for other in others} | {same}) == len(others) + 1
    assert labeled.digest(images.bfloat16(), labels) != same


def test_of_many_images_every_one_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeled, "SAMPLE", 1000)
    images, labels = torch.zeros(1500, 1, 4, 4), torch.zeros(1500).long()
    same = labeled.digest(images, labels)
    for i in (0, 999, 1000, 1499):
        changed = images.clone()
        changed[i] += 1
        assert labeled.digest(changed, labels) != same
        assert labeled.digest(images, labels.index_fill(0, torch.tensor(i), 1)) != same
