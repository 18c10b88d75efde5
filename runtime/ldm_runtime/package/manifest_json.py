"""manifest.json as text. It is written by a machine and not trusted: `parse` refuses whatever it does not know.

A parsed `Manifest` is consistent in itself (`rules.py`).
"""

import json

from ldm_runtime.errors import FormatError
from ldm_runtime.files import strict_json
from ldm_runtime.package.manifest import SCHEMA_VERSION, Manifest
from ldm_runtime.package.rules import check


def parse(text: str, where: str) -> Manifest:
    """Read a manifest; `where` names the file in messages.

    Raises:
        FormatError: not JSON, another schema version, an unknown or missing key, a wrong type, or contents
            that contradict themselves; the message has the JSON path.
    """
    value = strict_json.parse(text, where)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        what = f"has schema_version {strict_json.spelt(version)}, but this runtime reads {SCHEMA_VERSION}"
        raise FormatError(where, what, "manifest.version")
    manifest = strict_json.read(Manifest, value, f"{where}: manifest")
    check(manifest, f"{where}: manifest")
    return manifest


def dump(manifest: Manifest) -> str:
    """Write the manifest as text that `parse` reads back to an equal value; the same value gives the same text."""
    value = strict_json.plain(manifest)
    value["files"] = dict(sorted(value["files"].items()))
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
