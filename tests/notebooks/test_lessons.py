"""What every lesson owes its reader, read off the files: portable, described, current, complete."""

from __future__ import annotations

import html
import itertools
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

import notebooks

ROOT = Path(__file__).resolve().parents[2]

URL = notebooks.repository_url()
LESSONS = notebooks.lessons()
HOMEWORK = sorted((ROOT / "notebooks" / "homework").glob("*/homework.ipynb"))
PAPERS = re.compile(r"https?://(?:doi\.org|arxiv\.org|www\.nature\.com|proceedings\.|papers\.nips\.cc|openaccess\.)")
SECONDS, MEGABYTES = 60, 2048


def _ids(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(params=LESSONS, ids=_ids)
def lesson(request: pytest.FixtureRequest) -> Any:
    book = nbformat.read(request.param, as_version=4)
    book.path = request.param
    return book


@pytest.fixture(params=[*LESSONS, *HOMEWORK], ids=_ids)
def notebook(request: pytest.FixtureRequest) -> Any:
    book = nbformat.read(request.param, as_version=4)
    book.path = request.param
    return book


def _markdown(notebook: Any) -> list[str]:
    """The Markdown cells without code spans, code blocks and mathematics."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return [re.sub(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", "", text, flags=re.DOTALL) for text in cells]


def _outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def _pages(notebook: Any) -> list[str]:
    return [output.data["text/html"] for output in _outputs(notebook) if "text/html" in output.get("data", {})]


def test_there_are_lessons() -> None:
    assert len(LESSONS) >= 8


def test_outputs_are_current_and_the_file_is_normal(lesson: Any) -> None:
    assert notebooks.complaints(lesson.path, URL) == []


def test_it_was_fast_and_small_when_last_measured(lesson: Any) -> None:
    assert lesson.metadata.cvbook.seconds <= SECONDS
    assert lesson.metadata.cvbook.peak_mb <= MEGABYTES


def test_it_is_in_the_table_of_contents(notebook: Any) -> None:
    name = notebook.path.relative_to(ROOT).with_suffix("").as_posix()
    assert f"- file: {name}\n" in (ROOT / "book" / "_toc.yml").read_text() + "\n"


def test_markdown_is_portable(notebook: Any) -> None:
    """Colab and GitHub show MyST raw: no directive, role, target, substitution or attribute block."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"^\s*(```|~~~|:::)\s*\{", cell.source, re.MULTILINE), cell.source
    for text in _markdown(notebook):
        assert not re.search(r"^:::", text, re.MULTILINE), text
        assert not re.search(r"\{[a-z:-]+\}`|\{\{|^\([\w-]+\)=\s*$|^\{[#.]", text, re.MULTILINE), text


def test_headings_descend_without_gaps(notebook: Any) -> None:
    levels = [len(m) for text in _markdown(notebook) for m in re.findall(r"^(#+) \S", text, re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_links_to_files_lead_somewhere(notebook: Any) -> None:
    for text in _markdown(notebook):
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"https?://|#|mailto:", target):
                assert (notebook.path.parent / target.split("#")[0]).exists(), target


def test_every_paper_is_in_the_bibliography(notebook: Any) -> None:
    known = set(re.findall(r"url\s*=\s*[{\"]([^}\"]+)", (ROOT / "book" / "references.bib").read_text()))
    for text in _markdown(notebook):
        for target in re.findall(r"\]\((https?://[^)\s]+)\)", text):
            assert target in known or not PAPERS.match(target), f"{target} is not the url of any entry"


def test_every_picture_is_described(notebook: Any) -> None:
    for output in _outputs(notebook):
        kinds = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
        assert not kinds, "show pictures with viz.show, which attaches alt text"
    for page in _pages(notebook):
        for tag in re.findall(r"<img\b[^>]*>", page):
            assert len(html.unescape(re.search(r'alt="([^"]*)"', tag).group(1))) >= 40
    for text in _markdown(notebook):
        assert all(len(alt) >= 40 for alt in re.findall(r"!\[([^\]]*)\]", text))


def test_figures_in_the_outputs_are_the_current_ones(lesson: Any) -> None:
    from cvbook.figures import Figure

    for page in _pages(lesson):
        if found := re.search(r'data-figure="(\w+)"', page):
            code = Figure(found.group(1), "x" * 40).code
            assert code in page, f"{found.group(1)} changed; run python tools/notebooks.py execute {lesson.path}"


def test_no_error_or_warning_is_printed(lesson: Any) -> None:
    for output in _outputs(lesson):
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", output.text


def test_exercises_are_numbered_and_have_hints_and_a_solution(lesson: Any) -> None:
    text = "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")
    parts = re.split(r"^> \*\*Exercise (?=\d)", text, flags=re.MULTILINE)[1:]
    assert 4 <= len(parts) <= 6
    for number, part in enumerate(parts, 1):
        assert re.match(rf"{number} ★{{1,3}}", part), part[:40]
        folds = re.findall(r"<summary>(.*?)</summary>", part)
        assert sum(fold.startswith("Hint") for fold in folds) >= 2, f"exercise {number}"
        assert any(fold.startswith("Solution") for fold in folds), f"exercise {number}"


def test_the_closing_parts_are_there(lesson: Any) -> None:
    headings = re.findall(r"^## (.+)$", "\n".join(_markdown(lesson)), re.MULTILINE)
    for heading in ("Exercises", "What to take away", "Go further", "Next"):
        assert heading in headings, heading


def test_numbers_stand_on_claims(lesson: Any) -> None:
    claims = [cell for cell in lesson.cells if cell.cell_type == "code" and re.search(r"\bclaim\(", cell.source)]
    assert claims
    for cell in claims:
        assert "claim" in cell.metadata.get("tags", []), cell.source
        rendered = "".join(o.data.get("text/html", "") for o in cell.outputs if "data" in o)
        assert rendered.count('class="cv-claim"') == len(re.findall(r"\bclaim\(", cell.source)), cell.source


def test_the_set_up_cell_is_stamped_and_harmless_elsewhere(notebook: Any) -> None:
    cells = [cell for cell in notebook.cells if cell.get("id") == "setup"]
    assert len(cells) == 1
    assert f'"git+{URL}"' in cells[0].source
    assert "--no-deps" in cells[0].source
    body = cells[0].source.split('if "google.colab" in sys.modules:\n')[1]
    assert all(not line or line.startswith("    ") for line in body.splitlines())
    others = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell.get("id") != "setup"]
    assert not any(re.search(r"^\s*[%!]\s*(pip|conda|apt)", source, re.MULTILINE) for source in others)


def test_the_address_is_written_once() -> None:
    """README and pages use the address only where no program can put it; all of them agree."""
    owner = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
    for path in [ROOT / "README.md", ROOT / "CITATION.cff", *(ROOT / "book").glob("*.md")]:
        for found in owner.findall(path.read_text()):
            repository = found.removesuffix(".git").rstrip(".")
            if repository.endswith("/" + URL.rsplit("/", 1)[1]):
                assert repository == URL, path
