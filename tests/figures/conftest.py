"""A phone-wide page on which a figure may not complain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty page; whatever a figure writes to the console or throws fails the test."""
    page = browser.new_page(viewport={"width": 360, "height": 1400})
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text))
    yield page
    assert page.complaints == []
    page.close()
