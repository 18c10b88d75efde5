"""Changes of a manifest as text."""

import json
from typing import Any

REMOVED = object()
HASH = "0" * 64


def edited(text: str, path: tuple[Any, ...], value: Any) -> str:
    whole = json.loads(text)
    place = whole
    for key in path[:-1]:
        place = place[key]
    if value is REMOVED:
        del place[path[-1]]
    else:
        if isinstance(place, list) and path[-1] == len(place):
            place.append(value)
        else:
            place[path[-1]] = value
    return json.dumps(whole)
