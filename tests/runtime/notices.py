"""Notices as the sentences that a user reads."""

from typing import Any


def said(source: Any) -> list[str]:
    return [str(notice) for notice in source.notices]
