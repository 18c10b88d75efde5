"""The folder of a report: what lies in it, and how it is told from a folder of images."""

import os
from pathlib import Path

from ldm_runtime.errors import InputError, OutputError
from ldm_runtime.files.atomic import lies_in, refuse_existing_in

REPORT, PAGE = "report.json", "report.html"
PICTURES = "pictures"  # the folder of the report's pictures as files
WORK = "kept"  # the folder of what is kept of an analysis, by its key
_MARK, _MARK_BYTES = b'"tool": "ldm-export', 200  # how a report begins


def is_report(folder: Path) -> bool:
    """Return whether a folder has a report of this program: the pictures there are none of the user's.

    Raises OSError where there is one that cannot be read.
    """
    report = folder / REPORT
    if not os.path.isfile(report):  # also false in a folder that nothing can be looked up in
        return False
    with open(report, "rb") as file:
        return _MARK in file.read(_MARK_BYTES)


def refuse_report_in(out: Path, *, force: bool) -> None:
    """Raise OutputError if the folder has a report already, without `force`, or is none. It may be missing.

    A report that lacks its page, which is written last, was interrupted and is no obstacle.
    """
    if os.path.lexists(out):
        try:
            is_half = not os.path.lexists(out / PAGE) and is_report(out)
        except OSError:  # it cannot be read, but it is there
            is_half = False
        refuse_existing_in(out, [REPORT, PAGE], force=force or is_half)


def refuse_images_in(out: Path, data: Path) -> None:
    """Raise InputError if the report's folder is that of the images, or would write pictures among them."""
    if os.path.realpath(out) == os.path.realpath(data) or any(lies_in(data, out / each) for each in (PICTURES, WORK)):
        raise InputError(f"the report would be written into {data}, the folder of the images; give another --out")


def refuse_other_than_folders_in(out: Path) -> None:
    """Raise OutputError if the report's folder has something else where the report's own folders are to be."""
    for each in (out / PICTURES, out / WORK):
        if os.path.lexists(each) and not each.is_dir():
            raise OutputError(
                f"{each} is no folder, and the report needs one there; take it out, or give another --out"
            )
