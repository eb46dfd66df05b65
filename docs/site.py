"""What the site is made of besides the pages: the README, the files that pages link to, the order of its sections.

MkDocs knows only what lies in docs/. Pages link to more: to the README, to `.env.example`, to code. The README becomes
a page, and each such file is copied along as text, so that every link that works among the files works in the site.
A section is a folder: whoever adds a page has nothing else to do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = CHECKOUT / "docs"
#: Where the README and the changelog stand in the site.
BROUGHT = {CHECKOUT / "README.md": "overview.md", CHECKOUT / "CHANGELOG.md": "changelog.md"}
#: The folders in the order in which a reader needs them. One that is not named here comes behind them.
SECTIONS = {
    "howto": "How to",
    "deploy": "Deploy",
    "explanation": "Explanation",
    "reference": "Reference",
    "decisions": "Decisions",
}
FIRST = ("README.md", "overview.md", "quickstart.md")
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, name in BROUGHT.items():
        files.append(File.generated(config, name, content=path.read_text(encoding="utf-8")))
    for path in sorted({path for file in files.documentation_pages() for path in _linked(file)}):
        if path.is_file() and DOCS not in path.parents and path not in BROUGHT:
            files.append(File.generated(config, _copy_of(path), content=path.read_text(encoding="utf-8")))
    config.nav = list(_navigation(files))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    def inside(found: re.Match[str]) -> str:
        path = _target(page.file, found[1])
        if path in BROUGHT:
            name = BROUGHT[path]
        elif DOCS in path.parents or path == DOCS:
            name = path.relative_to(DOCS).as_posix()
            if path.is_dir() and (path / "README.md").exists():
                name = f"{name}/README.md".removeprefix("./")
        elif path.is_file():
            name = _copy_of(path)
        else:
            return found[0]
        return os.path.relpath(name, Path(page.file.src_uri).parent) + (found[2] or "")

    return _LINK.sub(inside, markdown) + (_decisions() if page.file.src_uri == "decisions/README.md" else "")


def _decisions() -> str:
    """The list of them, which nobody has to keep."""
    pages = sorted((DOCS / "decisions").glob("0*.md"))
    titles = {page: page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# 0123456789.") for page in pages}
    return "\n" + "".join(f"- {page.name[:4]} [{title}]({page.name})\n" for page, title in titles.items())


def _linked(file: File) -> Iterator[Path]:
    return (_target(file, found[1]) for found in _LINK.finditer(file.content_string))


def _target(file: File, link: str) -> Path:
    """What a link means where the page's file stands."""
    brought = {name: path for path, name in BROUGHT.items()}
    folder = brought.get(file.src_uri, DOCS / file.src_uri).parent
    return Path(os.path.normpath(folder / link))


def _copy_of(path: Path) -> str:
    return f"files/{path.relative_to(CHECKOUT).as_posix().removeprefix('.')}.txt"


def _navigation(files: Files) -> Iterator[Any]:
    pages = sorted(file.src_uri for file in files.documentation_pages())
    folders = {page.partition("/")[0] for page in pages if "/" in page}
    yield {"Start": [{"Overview": page} if page == "overview.md" else page for page in FIRST]}
    for folder in sorted(folders, key=lambda name: ([*SECTIONS, name].index(name), name)):
        inside = [page for page in pages if page.startswith(f"{folder}/")]
        inside.sort(key=lambda page: not page.endswith("README.md"))
        yield {SECTIONS.get(folder, folder.capitalize()): inside}
    yield {"Changes": "changelog.md"}
