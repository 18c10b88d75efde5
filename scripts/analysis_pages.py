"""Writes the figures of an analysis into the documentation, whose pages name them in comments and hold none typed.

    ldm-export analyze --data data-cache/emoji-128 --out runs/analysis
    python scripts/analysis_pages.py runs/analysis

A page has `<!--=information.kl_image-->…<!--/-->` where a figure belongs, and takes its value, unit and interval. Of a
whole section it takes `information.sentences` as a list, and `compression.table.twin` as a table. The report and the
pictures that the pages show come along. Without a folder, the pages are written from the report that they have.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ldm_export.analyze.findings import Figure  # noqa: E402
from ldm_export.analyze.page import shown_cell, shown_number, shown_value  # noqa: E402

DOCS = ROOT / "docs"
PAGES = ("analyze.md", "theory.md")
REPORT = DOCS / "analysis" / "report.json"
PICTURES = DOCS / "analysis" / "pictures"
_PLACE = re.compile(r"<!--=([a-z_]+)\.([a-z0-9_.]+)-->.*?<!--/-->", re.DOTALL)
_PICTURE = re.compile(r"\(analysis/pictures/([\w-]+\.png)\)")


def main() -> None:
    """Take an analysis into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("analysis", nargs="?", type=Path, help="folder of a report of `ldm-export analyze`")
    folder = parser.parse_args().analysis
    if folder is not None:
        REPORT.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / "report.json", REPORT)
        shutil.rmtree(PICTURES, ignore_errors=True)
        PICTURES.mkdir()
        for name in pictures_of(PAGES):
            shutil.copyfile(folder / "pictures" / name, PICTURES / name)
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    for name in PAGES:
        page = DOCS / name
        page.write_text(filled(page.read_text(encoding="utf-8"), report), encoding="utf-8")


def pictures_of(pages: tuple[str, ...]) -> Iterator[str]:
    """Yield the names of the report's pictures that the pages show."""
    for name in pages:
        yield from _PICTURE.findall((DOCS / name).read_text(encoding="utf-8"))


def filled(text: str, report: dict[str, Any]) -> str:
    """Return a page with what the report says in its places. KeyError names a place that the report does not have."""

    def fill(match: re.Match[str]) -> str:
        section, name = match.group(1), match.group(2)
        return f"<!--={section}.{name}-->{_shown(report, section, name)}<!--/-->"

    return _PLACE.sub(fill, text)


def _shown(report: dict[str, Any], section: str, name: str) -> str:
    if section == "report":
        return _fact(report, name)
    findings = report["sections"][section]["findings"]
    if name == "sentences":
        return "\n\n" + "\n".join(f"- {sentence}" for sentence in findings["sentences"]) + "\n\n"
    if name.startswith("table."):
        return _table(next(each for each in findings["tables"] if each["name"] == name.removeprefix("table.")))
    found = [Figure(**each) for each in findings["figures"] if each["name"] == name]
    if not found:
        raise KeyError(f"{section}.{name}")
    figure = found[0]
    if figure.value is None:
        return f"no value ({figure.note[:1].lower()}{figure.note[1:].rstrip('.')})"
    if figure.low is None or figure.high is None:
        return shown_value(figure)
    return f"{shown_value(figure)} ({shown_number(figure.low)} to {shown_number(figure.high)})"


def _fact(report: dict[str, Any], name: str) -> str:
    value: Any = report
    for part in name.split("."):
        value = value[part]
    if isinstance(value, list):
        return "x".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _table(table: dict[str, Any]) -> str:
    rows = [table["head"], ["---"] * len(table["head"]), *([shown_cell(cell) for cell in row] for row in table["rows"])]
    return "\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n\n"


if __name__ == "__main__":
    main()
