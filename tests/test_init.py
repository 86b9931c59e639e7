"""Importing the package, choosing the scale, the set-up line."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cvbook


def test_import_brings_in_neither_torch_nor_matplotlib() -> None:
    code = "import sys, cvbook; print(sorted({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_scale_is_laptop_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CVBOOK_SCALE", raising=False)
    assert cvbook.scale() == "laptop"
    monkeypatch.setenv("CVBOOK_SCALE", "gpu")
    assert cvbook.scale() == "gpu"


def test_scale_rejects_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBOOK_SCALE", "huge")
    with pytest.raises(ValueError, match="'laptop' or 'gpu', got 'huge'"):
        cvbook.scale()


@pytest.mark.parametrize(("cuda", "expected"), [(True, "gpu"), (False, "laptop")])
def test_setup_picks_the_scale_and_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cuda: bool, expected: str
) -> None:
    import torch

    monkeypatch.setenv("CVBOOK_SCALE", "laptop")
    monkeypatch.delenv("CVBOOK_SCALE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Test GPU")
    cvbook.setup()
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert f"running at {expected} scale" in line
    assert ("Test GPU" in line) == cuda
    assert cvbook.scale() == expected
    monkeypatch.delenv("CVBOOK_SCALE")


def test_setup_keeps_a_scale_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("CVBOOK_SCALE", "laptop")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Test GPU")
    cvbook.setup()
    assert cvbook.scale() == "laptop"
