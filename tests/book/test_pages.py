"""Every built page in a real browser that can reach nothing but this machine."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
LIMIT = 1_500_000  # bytes, gzip-compressed, scripts and fonts included
PACKED = (".woff2", ".woff", ".png", ".webp", ".jpg", ".gz")  # compressed already
READY = "() => !window.MathJax || !window.MathJax.startup || window.MathJax.startup.promise.then(() => true)"


def _pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    found = [toc["root"]]

    def walk(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            if "file" in entry:
                found.append(entry["file"])
            walk(entry.get("chapters", []) + entry.get("sections", []))

    walk(toc["parts"])
    return [*found, "search", "genindex"]


PAGES = _pages()


class Visit:
    """One page, loaded with every request that leaves this machine refused and written down."""

    def __init__(self, browser: Any, address: str, width: int = 1200) -> None:
        self.blocked: list[str] = []
        self.trouble: list[str] = []
        self.bytes: dict[str, int] = {}
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.page = self.context.new_page()
        self.page.route("**/*", self._route)
        self.page.on("console", lambda m: self.trouble.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("requestfailed", lambda request: self.trouble.append(f"failed: {request.url}"))
        self.page.on("response", self._response)
        self.page.goto(address, wait_until="load")
        self.page.evaluate(READY)
        self.page.wait_for_load_state("networkidle")

    def _route(self, route: Any) -> None:
        url = route.request.url
        if re.match(r"(file|data|blob):|http://127\.0\.0\.1[:/]", url):
            route.continue_()
        else:
            self.blocked.append(url)
            route.abort()

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.trouble.append(f"{response.status} {response.url}")
        if response.url.startswith("http"):
            body = response.body()
            name = response.url.split("?")[0]
            self.bytes[name] = len(body if name.endswith(PACKED) else gzip.compress(body, 6))

    def close(self) -> None:
        self.context.close()


def _address(site: str, name: str) -> str:
    return f"{site}/{name}.html"


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("way", ["http", "file"])
def test_a_page_works_offline_and_without_a_complaint(browser: Any, site: str, name: str, way: str) -> None:
    visit = Visit(browser, _address(site, name) if way == "http" else (HTML / f"{name}.html").as_uri())
    figures = visit.page.locator(".cv-fig")
    empty = [i for i in range(figures.count()) if not figures.nth(i).locator(".cv-picture *").count()]
    formulas = visit.page.locator("mjx-container").count()
    raw = visit.page.locator(".math").count()
    broken = visit.page.locator("mjx-merror").count()
    visit.close()
    assert visit.blocked == []
    assert visit.trouble == []
    assert empty == []
    assert broken == 0
    assert formulas >= raw


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_light(browser: Any, site: str, name: str) -> None:
    visit = Visit(browser, _address(site, name))
    visit.page.mouse.wheel(0, 100_000)
    visit.page.wait_for_load_state("networkidle")
    visit.close()
    heaviest = sorted(visit.bytes.items(), key=lambda item: -item[1])[:5]
    assert sum(visit.bytes.values()) <= LIMIT, heaviest


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_is_accessible(browser: Any, site: str, name: str, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    visit = Visit(browser, _address(site, name))
    visit.page.evaluate("(t) => { document.documentElement.dataset.theme = t; }", theme)
    visit.page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    visit.page.wait_for_timeout(300)  # color transitions of the theme
    found = Axe().run(visit.page).response["violations"]
    visit.close()
    grave = [
        (violation["id"], node["html"][:160], node.get("failureSummary", "")[:200])
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
    assert grave == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(browser: Any, site: str, name: str) -> None:
    visit = Visit(browser, _address(site, name), width=360)
    wide = visit.page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    culprits = visit.page.evaluate(
        """() => [...document.querySelectorAll('.cv-fig, .cv-fig *')].filter((e) =>
             e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 120)).slice(0, 3)"""
    )
    visit.close()
    assert wide <= 0
    assert culprits == []


@pytest.mark.parametrize("name", PAGES)
def test_every_image_is_described(browser: Any, site: str, name: str) -> None:
    text = (HTML / f"{name}.html").read_text(encoding="utf-8")
    for tag in re.findall(r"<img\b[^>]*>", text):
        assert re.search(r'\balt="[^"]+"', tag), tag[:200]


def test_links_between_pages_lead_somewhere(site: str) -> None:
    broken = []
    for name in PAGES:
        page = HTML / f"{name}.html"
        for target in re.findall(r'href="([^"]+)"', page.read_text(encoding="utf-8")):
            path, _, anchor = target.partition("#")
            path = path.partition("?")[0]
            if re.match(r"[a-z]+:", target) or path.startswith("_sources"):
                continue
            goal = (page.parent / path).resolve() if path else page
            if not goal.exists() or (
                anchor and goal.suffix == ".html" and f'id="{anchor}"' not in goal.read_text(encoding="utf-8")
            ):
                broken.append((name, target))
    assert broken == []
