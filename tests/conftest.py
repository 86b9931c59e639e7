"""Shared fixtures: a headless Chromium, and the exported functions of figures as Python callables."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("google-chrome") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a browser where there is none, and say so."""
    if CHROMIUM:
        return
    for item in items:
        if {"browser", "js"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(
                pytest.mark.skip(reason="no Chromium on this machine; install it to test pages and figures")
            )


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One headless Chromium for the whole run."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def js(browser: Any) -> Iterator[Callable[[str], Callable[..., Any]]]:
    """``js("shapes")("outputSize", 8, 3)`` runs an exported function of ``cvbook/figures/shapes.js``."""
    from cvbook.figures import source

    page = browser.new_page()

    def module(name: str) -> Callable[..., Any]:
        def call(function: str, *arguments: Any) -> Any:
            return page.evaluate(
                "([text, name, args]) => import(URL.createObjectURL(new Blob([text], {type: 'text/javascript'})))"
                ".then((m) => m[name](...args))",
                [source(name), function, list(arguments)],
            )

        return call

    yield module
    page.close()
