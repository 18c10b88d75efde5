"""A hook of mkdocs: a page that would load anything from the network is an error."""

import re
from typing import Any

from mkdocs.exceptions import PluginError

_LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^\"'> ]+")


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Raise PluginError for a script, style sheet or image that is not part of the site."""
    found = [tag for tag in _LOADED.findall(output) if 'rel="canonical"' not in tag]
    if found:
        raise PluginError(f"{page.file.src_uri} loads from the network: {found[0]}")
    return output
