"""A small assignment of two functions, as notebooks."""

from __future__ import annotations

import copy
from typing import Any

NAME = "01_small"
IMPORTS = "import math\n\nimport torch\n\nfrom cvbook.checks import neuron as checks\n"
RIGHT = {
    "double": "def double(x):\n    return 2 * x\n",
    "total": "def total(x):\n    return x.sum()\n",
}
STUB = "def {name}(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()\n"
CHECKS = """\
from cvbook.checks.points import seeds
from cvbook.checks.verdict import Wrong, equal, exercise


@exercise("{name}")
def check(answer, seed=0):
    x = torch.randn(5, generator=torch.Generator().manual_seed(seed))
    equal(answer(x.clone()), {expected}, what="five numbers", mistakes={{"this is the input": x}})


check({name}).require()
### BEGIN HIDDEN TESTS
for seed in seeds(1, 2):
    check({name}, seed=seed).require()
### END HIDDEN TESTS
"""
TESTS = {
    "test-double": ("double", 2, CHECKS.format(name="double", expected="2 * x")),
    "test-total": ("total", 3, CHECKS.format(name="total", expected="x.sum()")),
}


def cell(source: str, grade_id: str | None = None, *, points: float | None = None) -> dict[str, Any]:
    marks: dict[str, Any] = {}
    if grade_id:
        marks = {"grade_id": grade_id, "grade": points is not None, "solution": points is None, "locked": False}
        marks |= {"schema_version": 3, "task": False} | ({"points": points} if points is not None else {})
    metadata = {"nbgrader": marks} if marks else {}
    return {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": [], "source": source}


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 4}


def whole(
    answers: dict[str, str] | None = None, *, first: str = "", tests: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The notebook with these answers, and a cell before them."""
    answers = RIGHT | (answers or {})
    cells = [cell(IMPORTS), *([cell(first)] if first else [])]
    for grade_id, (name, points, source) in (TESTS if tests is None else tests).items():
        cells += [cell(answers[name], name), cell(source, grade_id, points=points)]
    return notebook(*cells)


def resaved(content: dict[str, Any], editor: str) -> dict[str, Any]:
    """A notebook as an editor writes it."""
    found = copy.deepcopy(content)
    if editor == "Colab":
        found["nbformat_minor"] = 0
        found["metadata"] = {"colab": {"provenance": []}, "accelerator": "GPU"}
        for number, one in enumerate(found["cells"]):
            one["metadata"] |= {"id": f"aB{number}", "colab": {"base_uri": "https://localhost/"}}
    if editor == "VS Code":
        found["nbformat_minor"] = 5
        for number, one in enumerate(found["cells"]):
            one["id"] = f"{number:08x}"
            one["metadata"] |= {"vscode": {"languageId": "python"}}
            one["source"] = "".join(one["source"]).splitlines(keepends=True)
    if editor == "Kaggle":
        for one in found["cells"]:
            one["metadata"] = {"execution": {"iopub.status.busy": "2026-01-01"}, "trusted": True}
            if one["cell_type"] == "code":
                one["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "a\nb"}]
    return found
