"""The documentation builds as a site in which every link leads somewhere, and which loads nothing from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import CHECKOUT

DOCS = CHECKOUT / "docs"
#: What a browser fetches by itself when it shows a page.
FETCHED = {"img", "script", "iframe", "source", "video", "audio", "embed"}


@dataclass
class Shown(HTMLParser):
    """What a page points to, what it loads, and the places in it that can be pointed to."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(found["href"])
        elif tag in FETCHED and "src" in found:
            self.loaded.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not with --quiet, which silences the warnings before --strict counts them."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=CHECKOUT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Shown]:
    found = {}
    for path in sorted(site.rglob("*.html")):
        found[path] = Shown()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


def inner_links(pages: dict[Path, Shown]) -> Iterator[tuple[Path, str, Path, str]]:
    """Page, link, the file it leads to and the place in that."""
    for page, shown in pages.items():
        if page.name == "404.html":  # knows no folder that it lies in
            continue
        for link in shown.links + shown.loaded:
            parts = urlsplit(link)
            if not parts.scheme and not parts.netloc:
                target = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
                yield page, link, target, unquote(parts.fragment)


def test_every_page_is_in_the_site(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        path = page.relative_to(DOCS).with_suffix(".html")
        assert (site / (path.with_name("index.html") if page.stem == "README" else path)).exists(), page
    assert (site / "overview.html").exists()


def test_every_link_leads_to_a_file_and_a_place_in_it(pages: dict[Path, Shown]) -> None:
    links = list(inner_links(pages))
    assert len(links) > 1_000
    for page, link, target, place in links:
        assert target.is_file() or (target / "index.html").is_file(), (page, link)
        assert not place or place in pages[target].ids, (page, link)


def test_links_out_of_the_docs_lead_to_files(site: Path) -> None:
    copied = {path.relative_to(site).as_posix() for path in (site / "files").rglob("*.txt")}
    assert {"files/env.example.txt", "files/failpoints.py.txt"} <= copied


def test_every_decision_is_listed(pages: dict[Path, Shown], site: Path) -> None:
    listed = {link for link in pages[site / "decisions" / "index.html"].links if link.startswith("00")}
    assert listed == {path.with_suffix(".html").name for path in (DOCS / "decisions").glob("0*.md")}


def test_navigation_reaches_every_page(pages: dict[Path, Shown], site: Path) -> None:
    start = site / "index.html"
    reached, to_look_at = {start}, [start]
    while to_look_at:
        page = to_look_at.pop()
        for _, _, target, _ in inner_links({page: pages[page]}):
            if target in pages and target not in reached:
                reached.add(target)
                to_look_at.append(target)
    assert set(pages) - reached == {site / "404.html"}


def test_the_site_loads_nothing_from_elsewhere(pages: dict[Path, Shown], site: Path) -> None:
    for page, shown in pages.items():
        foreign = [each for each in shown.loaded if urlsplit(each).netloc]
        assert not foreign, page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert "url(http" not in text and "url(//" not in text and "@import" not in text, style
