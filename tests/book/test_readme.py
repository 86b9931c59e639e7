"""The README keeps its promises: badges lead to the lessons, commands exist, versions agree."""

from __future__ import annotations

import re

import pytest
import yaml

import cvbook
import notebooks

ROOT = notebooks.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def _published() -> list[str]:
    homework = sorted((ROOT / "notebooks" / "homework").glob("*/*.ipynb"))
    return [path.relative_to(ROOT).as_posix() for path in [*notebooks.lessons(), *homework]]


@pytest.mark.parametrize("path", _published())
def test_every_lesson_has_a_badge_that_leads_to_it(path: str) -> None:
    repository = CONFIG["repository"]["url"].removeprefix("https://github.com/")
    branch = CONFIG["repository"]["branch"]
    assert f"(https://colab.research.google.com/github/{repository}/blob/{branch}/{path})" in README


def test_no_badge_leads_elsewhere() -> None:
    assert len(re.findall(r"colab\.research\.google\.com/github/", README)) == len(_published())


@pytest.mark.parametrize("page", ["README.md", "book/contributing.md", "book/preface.md", "book/teachers.md"])
def test_every_command_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    assert named <= targets


def test_the_link_to_read_online_is_that_of_github_pages_and_called_a_placeholder_while_it_is_one() -> None:
    owner, name = CONFIG["repository"]["url"].removeprefix("https://github.com/").split("/")
    assert f"[Read it online](https://{owner}.github.io/{name}/)" in README
    assert ("Not published yet" in README) == (owner == "example")


def test_every_workflow_is_explained() -> None:
    contributing = (ROOT / "book" / "contributing.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \| .*(?:week|push)", contributing, re.MULTILINE)
    assert sorted(named) == sorted(path.stem for path in (ROOT / ".github" / "workflows").glob("*.yml"))


def test_every_relative_link_exists() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_version_to_cite_is_the_version_shipped() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == cvbook.__version__
    assert citation["title"] == CONFIG["title"]
