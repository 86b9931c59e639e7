"""The Sphinx extension: portable Markdown in, rich and tidy pages out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cvbook_sphinx
import nbformat
import pytest

CONF = """
extensions = ["myst_nb", "sphinxcontrib.bibtex", "sphinx.ext.autodoc", "sphinx_thebe", "cvbook_sphinx"]
project, nb_execution_mode, myst_enable_extensions = "A book", "off", ["dollarmath"]
bibtex_bibfiles, bibtex_cite_id = ["references.bib"], "cite-{key}"
html_theme, nitpicky, html_theme_options = "sphinx_book_theme", True, {"repository_url": "https://github.com/example/book"}
exclude_patterns = ["_build"]
"""
BIB = """@article{unread, author = {Nobody, Ann}, title = {Not linked}, journal = {Papers}, year = {2020},
url = {https://arxiv.org/abs/2001.00001}}
@article{luo2016understanding, author = {Luo, Wenjie and Li, Yujia}, title = {Understanding the field},
journal = {Papers}, year = {2016}, url = {https://arxiv.org/abs/1701.04128}}"""
LESSON = """# Shapes

You say what comes out.

See [Luo et al. 2016](https://arxiv.org/abs/1701.04128), [elsewhere](https://example.com/x) and
[the exercise](#exercise-2), and `json.dumps`.

> **Definition (equivariant map).** It commutes.

> **Exercise 2 ★★★ (derive $n$).** Show it.
>
> - twice

> **Myth.** Pooling.

> **Predict.**
>
> What?

> **Important.** No box.

> An ordinary quote.

> - **Note.** A list.

> ```
> code
> ```
>
> **Note.** After code.

<details><summary>Solution</summary>

> **Solution.** Done.

</details>
"""
INDEX = """# Index

```{toctree}
notebooks/01_a/01_shapes
bibliography
api
```

```{figure-from} notebooks/01_a/01_shapes.ipynb explorer
```

```{lessons}
```

```{unpublished}
Not published yet.
```

    git clone REPOSITORY-URL

[Issues](REPOSITORY-URL/issues)
"""
API = "# API\n\n```{eval-rst}\n.. automodule:: json\n   :members: dumps\n```\n"


def _lesson() -> Any:
    code = nbformat.v4.new_code_cell("1", id="one")
    code.outputs = [
        nbformat.v4.new_output("display_data", data={"text/html": '<div data-figure="explorer">MOVES</div>'}),
        nbformat.v4.new_output("display_data", data={"text/html": '<div class="cv-claim">9</div>'}),
        nbformat.v4.new_output("stream", text="noise"),
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(LESSON, id="zero"), code])
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook.metadata["cvbook"] = {"seconds": 12, "peak_mb": 345}
    return notebook


def _build(folder: Path, files: dict[str, str]) -> tuple[Path, str]:
    import io

    from sphinx.application import Sphinx

    for name, text in {"conf.py": CONF, "references.bib": BIB, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    nbformat.write(_lesson(), folder / "notebooks" / "01_a" / "01_shapes.ipynb")
    warnings = io.StringIO()
    app = Sphinx(folder, folder, folder / "_build", folder / "_build/t", "html", status=None, warning=warnings)
    app.build()
    return folder / "_build", warnings.getvalue()


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    (folder / "notebooks" / "01_a").mkdir(parents=True)
    pages = {"index.md": INDEX, "bibliography.md": "# Papers\n\n```{bibliography}\n```\n", "api.md": API}
    built, warnings = _build(folder, pages)
    assert not [line for line in warnings.splitlines() if "reference target" not in line], warnings
    return built


@pytest.fixture(scope="module")
def lesson(book: Path) -> str:
    return (book / "notebooks" / "01_a" / "01_shapes.html").read_text(encoding="utf-8")


def test_a_quote_with_a_listed_bold_word_becomes_a_box(lesson: str) -> None:
    assert re.findall(r'class="cv-box cv-(\w+)"', lesson) == ["definition", "exercise", "myth", "predict", "solution"]


def test_other_quotes_stay_quotes(lesson: str) -> None:
    assert lesson.count("<blockquote>") == 4
    assert "<strong>Important.</strong>" in lesson


def test_the_bold_words_become_the_title_and_leave_the_text(lesson: str) -> None:
    box = lesson[lesson.index('class="cv-box cv-definition"') :]
    assert re.search(r'<p class="cv-title">Definition \(equivariant map\)<a', box)
    assert re.search(r"<p>\s*It commutes\.</p>", box)
    predict = lesson[lesson.index('class="cv-box cv-predict"') :]
    assert re.match(r'[^>]*>\s*<p class="cv-title">Predict</p>\s*<p>What\?</p>', predict)


def test_a_title_keeps_mathematics_and_reads_stars_aloud(lesson: str) -> None:
    title = re.search(r'<p class="cv-title">Exercise 2 (.+?)</p>', lesson)
    assert title
    assert '<span role="img" aria-label="difficulty 3 of 3">★★★</span>' in title[1]
    assert 'class="math' in title[1]


def test_exercises_and_named_definitions_can_be_linked_to(lesson: str) -> None:
    assert re.search(r'class="cv-box cv-exercise" id="exercise-2"', lesson)
    assert re.search(r'class="cv-box cv-definition" id="definition-equivariant-map"', lesson)
    assert re.search(r'<a class="[^"]*" href="#exercise-2">(<[^>]+>)?the exercise', lesson)
    assert 'class="cv-box cv-myth">' in lesson  # nothing to call it by, so no anchor


def test_a_link_to_a_listed_paper_becomes_a_citation(lesson: str, book: Path) -> None:
    link = re.search(r"<a class=\"[^\"]*cv-cite[^>]*>.*?</a>", lesson)
    assert link
    assert 'href="../../bibliography.html#cite-luo2016understanding"' in link[0]
    assert "Understanding the field" in link[0]
    assert ">Luo et al. 2016</a>" in link[0]
    bibliography = (book / "bibliography.html").read_text(encoding="utf-8")
    assert 'id="cite-luo2016understanding"' in bibliography
    assert 'href="https://arxiv.org/abs/1701.04128"' in bibliography  # here the link leads to the paper


def test_the_bibliography_lists_what_is_linked_and_nothing_else(book: Path) -> None:
    bibliography = (book / "bibliography.html").read_text(encoding="utf-8")
    assert bibliography.count('id="cite-') == 1
    assert "Not linked" not in bibliography


def test_a_paper_linked_later_enters_the_bibliography(tmp_path: Path) -> None:
    (tmp_path / "notebooks" / "01_a").mkdir(parents=True)
    pages = {"index.md": INDEX, "bibliography.md": "# Papers\n\n```{bibliography}\n```\n", "api.md": API}
    _build(tmp_path, pages)
    built, _ = _build(tmp_path, {"index.md": INDEX + "\n[Nobody 2020](https://arxiv.org/abs/2001.00001)\n"})
    assert "Not linked" in (built / "bibliography.html").read_text(encoding="utf-8")


def test_pages_know_the_address_and_whether_it_is_a_placeholder(book: Path, tmp_path: Path) -> None:
    index = (book / "index.html").read_text(encoding="utf-8")
    assert "git clone https://github.com/example/book" in index
    assert 'href="https://github.com/example/book/issues"' in index
    assert "Not published yet." in index
    (tmp_path / "notebooks" / "01_a").mkdir(parents=True)
    built, _ = _build(tmp_path, {"conf.py": CONF.replace("com/example/", "com/someone/"), "index.md": INDEX})
    published = (built / "index.html").read_text(encoding="utf-8")
    assert "git clone https://github.com/someone/book" in published
    assert "Not published yet." not in published


def test_other_links_stay(lesson: str) -> None:
    assert 'href="https://example.com/x"' in lesson


def test_names_of_the_api_become_links(lesson: str) -> None:
    assert re.search(r'class="cv-api[^>]* href="../../api.html#json.dumps"', lesson)


def test_a_stored_figure_is_shown_on_another_page(book: Path) -> None:
    assert '<div data-figure="explorer">MOVES</div>' in (book / "index.html").read_text(encoding="utf-8")


def test_the_lessons_table_shows_what_was_measured(book: Path) -> None:
    index = (book / "index.html").read_text(encoding="utf-8")
    row = re.search(r"<tr[^>]*><td[^>]*><p><a[^>]*01_shapes.html.*?</tr>", index, re.DOTALL)
    assert row
    assert re.findall(r"<p>([^<]+)</p>", row[0]) == ["12", "345", "1", "1"]


def test_a_missing_figure_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "notebooks" / "01_a").mkdir(parents=True)
    _, warnings = _build(tmp_path, {"index.md": INDEX.replace("ipynb explorer", "ipynb typo")})
    assert "notebooks/01_a/01_shapes.ipynb holds no figure typo" in warnings


def test_pages_are_described(lesson: str) -> None:
    assert '<meta name="description" content="You say what comes out." />' in lesson
    assert (
        '<meta property="og:image" content="https://github.com/example/book/raw/HEAD/book/_static/social.png" />'
        in lesson
    )


@pytest.mark.parametrize("word", ["thebe", "fontawesome.js", 'title="Dark"', '<summary aria-label="Toggle'])
def test_the_theme_is_tidied(book: Path, word: str) -> None:
    for page in book.rglob("*.html"):
        assert word not in page.read_text(encoding="utf-8"), page.name


def test_mathjax_loads_where_there_are_formulas(book: Path, lesson: str) -> None:
    script = re.compile(r"<script[^>]*(src=[^>]*|>window\.)mathjax", re.IGNORECASE)
    assert script.search(lesson)
    assert not script.search((book / "index.html").read_text(encoding="utf-8"))


def test_tidying_twice_changes_nothing(book: Path) -> None:
    once = (book / "index.html").read_text(encoding="utf-8")
    again = once
    for pattern, replacement in cvbook_sphinx.TIDY:
        again = re.sub(pattern, replacement, again, flags=re.DOTALL)
    assert again == once
