"""The documentation holds together: links and anchors resolve, and every file of it is in the site."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "runtime").glob("*.md"), *(ROOT / "examples").glob("*.md")]
)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere. Links to other sites are not followed."""
    links = _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))
    return [link for link in links if "://" not in link and not _resolves(page, link)]


def _resolves(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page if name == "" else page.parent / name
    return target.exists() and (anchor == "" or anchor in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_resolves(page):
    assert broken(page) == []


@pytest.mark.parametrize("link", ["missing.md", "page.md#nowhere", "#nowhere"])
def test_a_link_to_nowhere_is_found(tmp_path, link):
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n[here](#a-page) and [there]({link})\n", encoding="utf-8")
    assert broken(page) == [link]


def paths_in(text: str) -> set[str]:
    """What looks like a file or folder of this project, between backticks; `NAME` stands for what is to be added."""
    found = re.findall(r"`([\w.]+(?:/[\w.]*)+|\w+\.py)`", _FENCED.sub("", text))
    return {path for path in found if "NAME" not in path}


def exists(path: str) -> bool:
    return any((root / path).exists() for root in (ROOT, ROOT / "ldm_export", ROOT / "runtime" / "ldm_runtime"))


@pytest.mark.parametrize("page", [DOCS / "architecture.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page):
    named = paths_in(page.read_text(encoding="utf-8"))
    assert len(named) > 5
    assert {path for path in named if not exists(path)} == set()


def test_a_file_that_moved_is_found():
    assert paths_in("`cli/run.py`, `moved.py`, `families/NAME.py`, `a word`") == {"cli/run.py", "moved.py"}
    assert exists("cli/run.py") and not exists("moved.py")


def rooms(package: Path) -> set[str]:
    """Return the modules and folders of a package, but those that are its door."""
    entries = [path for path in package.iterdir() if path.is_dir() or path.suffix == ".py"]
    return {path.name + "/" * path.is_dir() for path in entries if not path.name.startswith("__")}


@pytest.mark.parametrize("package", [ROOT / "ldm_export", ROOT / "runtime" / "ldm_runtime"], ids=lambda path: path.name)
def test_every_room_is_in_the_tree(package):
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    tables = page.split(f"| folder of `{package.relative_to(ROOT).as_posix()}/` |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([\w.]+/?)`", "\n".join(row.split(" | ")[0] for row in tables.splitlines())))
    assert named == rooms(package)


def test_every_page_is_in_the_site():
    listed = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


@pytest.mark.slow
def test_the_api_page_has_each_name_once_with_its_types(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    path = os.pathsep.join((str(ROOT), str(ROOT / "runtime")))
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=120)
    page = (tmp_path / "reference" / "runtime.html").read_text(encoding="utf-8")
    names = Counter(re.findall(r'<h\d id="(ldm_runtime[\w.]*)"', page))
    assert {name for name, times in names.items() if times > 1} == set()
    public = (
        "load",
        "pipeline.Pipeline.__call__",
        "run.Step.index",
        "run.Step.latents",
        "run.Run.cancel",
        "errors.LdmError",
    )
    assert {f"ldm_runtime.{name}" for name in public} <= set(names)
    assert not any(part.startswith("_") for name in names for part in name.split(".") if part != "__call__")
    text = re.sub(r"<[^>]+>", "", page)
    assert "threads: int | None = None" in text
