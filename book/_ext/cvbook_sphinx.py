"""Turn portable Markdown into a rich page, and the theme into pages that work offline and for everybody.

Lessons are plain notebooks, readable on Colab and GitHub. Here, a block quote that opens with a bold **Definition** or
**Exercise** becomes a box, a link to a paper in ``references.bib`` a citation, a literal `cvbook.claims.claim` a link
into the API reference. Two directives read the notebooks: ``{figure-from}`` shows a figure, ``{lessons}`` the seconds.
Pages may say ``REPOSITORY-URL`` for the address in ``_config.yml``; ``{unpublished}`` shows its text while that is a
placeholder.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import _MockObject
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinxcontrib.bibtex.citation_target import CitationTarget
from sphinxcontrib.bibtex.roles import CitationRef

KINDS = "Definition|Theorem|Proof|Note|Warning|Predict|Exercise|Solution|Myth"
ADDRESS, PLACEHOLDER = "REPOSITORY-URL", "https://github.com/example/"
UNUSED = "thebe|togglebutton|toggleHint|toggleOpen|design-tabs"  # scripts
# The theme's markup, made lighter (FontAwesome was half a page's weight; cvbook.css draws the icons) and accessible.
TIDY = (
    (r'<script src="[^"]*fontawesome\.js[^"]*"></script>', ""),
    (r'<script type="text/x-thebe-config">.*?</script>\s*<script>kernelName = .*?</script>', ""),
    (r"<link [^>]*(?:thebe|togglebutton)[^>]*\.css[^>]*/>", ""),
    (r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1"),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    (r'<summary>(<span class="toctree-toggle")', r'<summary aria-label="Pages of this chapter">\1'),
    (r'(<i class="theme-switch[^>]*?) +title="[^"]*"', r'\1 aria-hidden="true"'),
    (r' role="(?:doc-biblioentry|list"(?= class="citation-list))"?', ""),
)


class Box(nodes.Element):
    """A titled box, ``<div class="cv-box cv-KIND">``; its first child is a `BoxTitle`."""


class BoxTitle(nodes.TextElement):
    """The bold words that opened the block quote."""


class Boxes(SphinxTransform):
    """Replace block quotes that open with a bold word of `KINDS`; exercises and named boxes get an anchor."""

    default_priority = 300

    def apply(self, **kwargs: Any) -> None:
        for quote in list(self.document.findall(nodes.block_quote)):
            paragraph = quote.next_node(nodes.paragraph)
            words = [child for child in paragraph.children if child.astext()] if paragraph else []
            bold = words[0].astext() if words and isinstance(words[0], nodes.strong) else ""
            opening = re.match(rf"({KINDS})\b(?:\s+(\d+))?[^(]*(?:\((.+)\))?", bold)
            if paragraph is None or opening is None or quote[0] is not paragraph:
                continue
            kind, number, name = opening.groups()
            box = Box(classes=["cv-box", f"cv-{kind.lower()}"])
            anchor = nodes.make_id(f"{kind} {number or name or ''}")
            if (number or name) and anchor not in self.document.ids:
                box["ids"].append(anchor)
                self.document.ids[anchor] = box
                if hasattr(self.document, "myst_slugs"):  # what [text](#exercise-2) may point to
                    self.document.myst_slugs[anchor] = (quote.line or 0, anchor, bold.rstrip(". "))
            text = [nodes.paragraph("", "", *words[1:])] if words[1:] else []
            box += [_title(words[0]), *text, *quote.children[1:]]
            quote.replace_self(box)


def _title(strong: nodes.Node) -> BoxTitle:
    """The title without its full stop; stars are read aloud as a difficulty."""
    title = BoxTitle()
    for child in strong.children:
        if not isinstance(child, nodes.Text):
            title += child.deepcopy()
            continue
        text = child.rstrip(". ") if child is strong.children[-1] else str(child)
        before, stars, after = [*re.split("(★+)", text, maxsplit=1), "", ""][:3]
        label = f'<span role="img" aria-label="difficulty {len(stars)} of 3">{stars}</span>'
        title += [nodes.Text(before), *([nodes.raw("", label, format="html")] if stars else []), nodes.Text(after)]
    return title


def _close_title(writer: Any, node: BoxTitle) -> None:
    link = '<a class="headerlink" href="#{}" aria-label="Link to this box">#</a>'
    writer.body.append("".join(link.format(anchor) for anchor in node.parent["ids"]) + "</p>\n")


def stamp_address(app: Sphinx, docname: str, source: list[str]) -> None:
    """Write the repository's address where a page says ``REPOSITORY-URL``."""
    source[0] = source[0].replace(ADDRESS, app.config.html_theme_options.get("repository_url", ADDRESS))


def cite_papers(app: Sphinx, doctree: nodes.document) -> None:
    """Count links to papers of ``references.bib`` as citations, so that ``{bibliography}`` lists exactly these."""
    domain: Any = app.env.get_domain("cite")
    keys = {entry.fields.get("url"): key for key, entry in domain.bibdata.data.entries.items()}
    for key in {keys.get(link.get("refuri")) for link in doctree.findall(nodes.reference)} - {None}:
        target = CitationTarget(key=key, pre="", post="")
        domain.citation_refs.append(CitationRef(f"cited-{key}", app.env.docname, 0, [target]))


def renew_bibliography(app: Sphinx, env: Any) -> list[str]:
    """Pages to write again when any page changed: those with a bibliography."""
    return [key.docname for key in env.get_domain("cite").bibliographies]


def link_papers(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Make links to papers of the bibliography citations; the author's words stay, the reference is the tooltip."""
    citations: list[Any] = app.env.get_domain("cite").citations  # type: ignore[attr-defined]
    papers = {citation.entry.fields.get("url"): citation for citation in citations}
    for link in doctree.findall(nodes.reference):
        paper = papers.get(link.get("refuri", ""))
        if paper is None or paper.bibliography_key.docname == docname:
            continue
        page = app.builder.get_relative_uri(docname, paper.bibliography_key.docname)
        link["refuri"] = f"{page}#{paper.citation_id}"
        link["reftitle"] = paper.formatted_entry.text.render_as("text")
        link["internal"], link["classes"] = True, ["cv-cite"]


def link_code(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Link literals that name something of the API reference."""
    objects = app.env.get_domain("py").objects  # type: ignore[attr-defined]
    for literal in list(doctree.findall(nodes.literal)):
        entry = objects.get(literal.astext().removesuffix("()"))
        if entry is None or entry.docname == docname or isinstance(literal.parent, nodes.reference):
            continue
        page = app.builder.get_relative_uri(docname, entry.docname)
        link = nodes.reference(internal=True, refuri=f"{page}#{entry.node_id}", classes=["cv-api"])
        literal.replace_self(link)
        link += literal


class FigureFrom(SphinxDirective):
    """``{figure-from} notebooks/…/01_filters.ipynb kernel_playground``: a figure as the lesson stores it."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        path, name = self.arguments
        for output in _outputs(self.env, path):
            if f'data-figure="{name}"' in output:
                return [nodes.raw("", output, format="html")]
        logging.getLogger(__name__).warning(f"{path} holds no figure {name}; execute it", location=self.get_location())
        return []


class Lessons(SphinxDirective):
    """``{lessons}``: what each lesson took when it was last executed, and how much in it is checked."""

    def run(self) -> list[nodes.Node]:
        rows = ["| Lesson | s | MB | Claims | Ex. |", "|:--|--:|--:|--:|--:|"]
        for path in sorted(Path(self.env.srcdir).glob("notebooks/[0-9]*/*.ipynb")):
            where = path.relative_to(self.env.srcdir).as_posix()
            claims = sum('class="cv-claim"' in output for output in _outputs(self.env, where))
            notebook = nbformat.read(path, as_version=4)
            text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
            title = re.findall(r"^# (.+)$", text, re.MULTILINE)[0]
            exercises = len(re.findall(r"^> \*\*Exercise \d", text, re.MULTILINE))
            measured = {"seconds": "–", "peak_mb": "–", **notebook.metadata.get("cvbook", {})}
            numbers = f"{measured['seconds']} | {measured['peak_mb']} | {claims} | {exercises}"
            rows.append(f"| [{title}](/{where}) | {numbers} |")
        holder = nodes.container()
        self.state.nested_parse(StringList(rows, source=""), 0, holder)
        return holder.children


class Unpublished(SphinxDirective):
    """``{unpublished}``: text that is true as long as the repository's address is a placeholder."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        if not self.config.html_theme_options.get("repository_url", "").startswith(PLACEHOLDER):
            return []
        holder = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, holder)
        return holder.children


def _outputs(env: Any, path: str) -> list[str]:
    """The HTML outputs of a notebook; the page that asks is rebuilt when the notebook changes."""
    env.note_dependency(str(Path(env.srcdir) / path))
    cells = nbformat.read(Path(env.srcdir) / path, as_version=4).cells
    return [output.get("data", {}).get("text/html", "") for cell in cells for output in cell.get("outputs", [])]


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Drop scripts that no page uses (thebe's also load twice and fail); tell search engines what the page is about."""
    formulas = doctree and (doctree.next_node(nodes.math) or doctree.next_node(nodes.math_block))
    unused = re.compile(UNUSED if formulas else f"{UNUSED}|mathjax", re.IGNORECASE)
    scripts = context.get("script_files", [])
    context["script_files"] = [s for s in scripts if not unused.search(f"{s} {getattr(s, 'attributes', {})}")]
    first = doctree.next_node(nodes.paragraph) if doctree else None
    text = " ".join((first.astext() if first else app.config.project).split())
    about = html.escape(text if len(text) <= 200 else text[:199].rsplit(" ", 1)[0] + "…")
    title = html.escape(re.sub("<[^>]+>", "", html.unescape(context.get("title") or app.config.project)))
    image = app.config.html_theme_options.get("repository_url", "") + "/raw/HEAD/book/_static/social.png"
    context["metatags"] = f"""{context.get("metatags", "")}
    <meta name="description" content="{about}" />
    <meta property="og:title" content="{title}" /><meta property="og:description" content="{about}" />
    <meta property="og:type" content="article" /><meta property="og:image" content="{image}" />"""


def tidy_pages(app: Sphinx, exception: Exception | None) -> None:
    """Apply `TIDY` to the written pages; doing it twice changes nothing."""
    for page in [] if exception or app.builder.format != "html" else Path(app.outdir).rglob("*.html"):
        text = old = page.read_text(encoding="utf-8")
        for pattern, replacement in TIDY:
            text = re.sub(pattern, replacement, text, flags=re.DOTALL)
        if text != old:
            page.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the API reference reads cvbook as it lies there
    _MockObject.__or__ = _MockObject.__ror__ = lambda self, other: self  # type: ignore  # Array | None, without numpy
    app.add_node(Box, html=(lambda w, n: w.body.append(w.starttag(n, "div")), lambda w, n: w.body.append("</div>\n")))
    app.add_node(BoxTitle, html=(lambda w, n: w.body.append('<p class="cv-title">'), _close_title))
    app.add_transform(Boxes)
    app.add_directive("figure-from", FigureFrom)
    app.add_directive("lessons", Lessons)
    app.add_directive("unpublished", Unpublished)
    app.connect("source-read", stamp_address)
    app.connect("doctree-read", cite_papers)
    app.connect("env-updated", renew_bibliography)
    app.connect("doctree-resolved", link_papers)
    app.connect("doctree-resolved", link_code)
    app.connect("html-page-context", describe, priority=900)
    app.connect("build-finished", tidy_pages)
    # a higher env_version makes Sphinx read all pages anew
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
