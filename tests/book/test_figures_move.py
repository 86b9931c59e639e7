"""Every control of every published figure changes the picture, by keyboard and by mouse."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import pytest

import notebooks

pytestmark = pytest.mark.slow

CONTROLS = "input, select, button, [data-cv-drag]"
SNAPSHOT = """() => { const root = document.querySelector('.cv-fig');
  return [...root.querySelectorAll('.cv-picture svg, .cv-picture canvas, .cv-picture, .cv-readout')].map((e) =>
    e.tagName === 'CANVAS' ? e.toDataURL() : e.tagName === 'svg' ? e.outerHTML :
    e.innerText + [...e.querySelectorAll('input')].map((i) => i.value)).join('|'); }"""


def _published() -> list[Any]:
    found = []
    for path in notebooks.lessons():
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                page = output.get("data", {}).get("text/html", "")
                if match := re.search(r'data-figure="(\w+)"', page):
                    found.append(pytest.param(page, id=f"{path.stem}-{match.group(1)}-{len(found)}"))
    return found


PUBLISHED = _published()


def test_there_are_at_least_five() -> None:
    assert len({param.id.split("-")[1] for param in PUBLISHED}) >= 5


def _operate(page: Any, control: Any, way: str) -> None:
    tag = control.evaluate("(e) => e.tagName.toLowerCase()")
    kind = control.get_attribute("type") if tag == "input" else tag
    box = control.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    if tag in ("svg", "canvas", "g", "div", "rect", "circle", "path"):  # something to drag
        if way == "keyboard":
            control.focus()
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowDown")
        else:
            page.mouse.move(*middle)
            page.mouse.down()
            reach = [max(72, 0.3 * box[side]) for side in ("width", "height")]  # a stride of two cells, at least
            page.mouse.move(middle[0] + reach[0], middle[1] + reach[1], steps=5)
            page.mouse.up()
    elif kind == "range":
        low, high, value = (float(control.evaluate(f"(e) => e.{k}")) for k in ("min", "max", "value"))
        if way == "keyboard":
            control.focus()
            page.keyboard.press("ArrowLeft" if value >= high else "ArrowRight")
        else:
            share = 0.15 if (value - low) > 0.5 * (high - low) else 0.85
            page.mouse.click(box["x"] + share * box["width"], middle[1])
    elif kind == "number":
        control.focus()
        if way == "keyboard":
            page.keyboard.press("ArrowUp")
        else:
            control.click(click_count=3)
            page.keyboard.type("3")
            page.keyboard.press("Tab")
    elif kind == "checkbox":
        control.focus()
        page.keyboard.press("Space") if way == "keyboard" else page.mouse.click(*middle)
    elif tag == "select":
        index, count = control.evaluate("(e) => [e.selectedIndex, e.options.length]")
        if way == "keyboard":
            control.focus()
            page.keyboard.press("ArrowUp" if index == count - 1 else "ArrowDown")
        else:
            control.select_option(index=(index + 1) % count)
    elif tag == "button":
        control.focus()
        page.keyboard.press("Enter") if way == "keyboard" else page.mouse.click(*middle)
    else:
        raise AssertionError(f"no test knows how to operate a {tag} {kind}")


@pytest.mark.parametrize("html", PUBLISHED)
@pytest.mark.parametrize("way", ["keyboard", "mouse"])
def test_every_control_changes_the_picture(browser: Any, html: str, way: str) -> None:
    page = browser.new_page(viewport={"width": 1000, "height": 1600})
    page.set_content(html)
    count = page.locator(CONTROLS).count()
    assert count >= 2
    dead = []
    for index in range(count):
        page.set_content(html)
        control = page.locator(CONTROLS).nth(index)
        if control.is_disabled() or control.get_attribute("aria-pressed") == "true" or not control.is_visible():
            continue
        control.scroll_into_view_if_needed()
        before = page.evaluate(SNAPSHOT)
        _operate(page, control, way)
        page.wait_for_timeout(30)
        if page.evaluate(SNAPSHOT) == before:
            dead.append(control.evaluate("(e) => e.outerHTML").split("\n")[0][:200])
    page.close()
    assert dead == []


@pytest.mark.parametrize("html", PUBLISHED)
def test_every_control_has_a_name_and_a_size_for_fingers(browser: Any, html: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 1600})
    page.set_content('<meta name="viewport" content="width=device-width">' + html)
    small = page.evaluate(
        """(selector) => [...document.querySelectorAll(selector)].filter((e) => { const b = e.getBoundingClientRect();
             return b.width && Math.max(b.height, e.closest('label')?.getBoundingClientRect().height ?? 0) < 24;
           }).map((e) => e.outerHTML.slice(0, 120))""",
        CONTROLS,
    )
    assert page.locator('.cv-fig[role="group"]').get_attribute("aria-label")
    page.close()
    assert small == []
