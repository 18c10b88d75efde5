"""Changes of package/tokenizer/tokenizer.json: a part of `make_golden.py`."""

import json
import random
from pathlib import Path
from typing import Any

from ldm_runtime.errors import FormatError
from ldm_runtime.text.clip_encoder import ClipEncoder
from ldm_runtime.text.clip_form import read_tokenizer
from tests.golden_manifests import mutations, places, splice, value_at
from tests.runtime.text.random_texts import random_text, random_tokenizer
from tests.runtime.text.test_clip_tokenizer import BAD, FRAGMENTS, HOSTILE

FILE = "package/tokenizer/tokenizer.json"


def tokenizer_changes(golden: Path) -> dict[str, Any]:
    """`changes`: texts "offset removed inserted-hex result". `ids`: a change, and texts with their token ids then."""
    good = (golden / FILE).read_bytes()
    whole = [*(file for file, _ in BAD), *HOSTILE.values()]
    changed = [file.encode() if isinstance(file, str) else written(file) for file in whole if file != "[" * 100_000]
    changed += [*replaced(good), *damaged(good)]
    kept = dict.fromkeys(f"{told(good, content)} {code(content) or 'ok'}" for content in changed)
    draw = random.Random(7)
    ids = [case for case in (id_case(good, draw) for _ in range(60)) if len(case["change"]) < 4000]
    return {"changes": list(kept), "ids": ids}


def written(file: Any) -> bytes:
    return json.dumps(file, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")


def told(good: bytes, content: bytes) -> str:
    offset, removed, inserted = splice(good, content)
    return f"{offset} {removed} {inserted.hex() or '-'}"


def code(content: bytes) -> str | None:
    try:
        read_tokenizer(content, FILE)
    except FormatError as error:
        return error.code
    return None


def replaced(good: bytes) -> list[bytes]:
    """Put each of a few values in the place of others, and leave keys out."""
    draw, found = random.Random(3), []
    paths = [path for path in places(json.loads(good), ()) if path[:2] != ("model", "vocab") or len(path) < 3]
    for path in [*paths * 3, *draw.sample(list(places(json.loads(good), ())), 20)]:
        whole = json.loads(good)
        place = value_at(whole, path[:-1])
        if draw.random() < 0.2:
            del place[path[-1]]
        else:
            place[path[-1]] = draw.choice([*FRAGMENTS, False, 0, 0.0, 1.0, "", "re", "e", ["r", "e"], {}, {"id": 0}])
        found.append(written(whole))
    return found


def damaged(good: bytes) -> list[bytes]:
    return [
        good[:at] + inserted + good[at + removed :] for at, removed, inserted in mutations(good, 400, random.Random(5))
    ]


def id_case(good: bytes, draw: random.Random) -> dict[str, Any]:
    """A random tokenizer that differs a little, and the ids of some texts."""
    while len(file := random_tokenizer(draw)) and len(file["model"]["vocab"]) > 520:
        pass
    content = written(file)
    encoder = ClipEncoder(read_tokenizer(content, FILE))
    texts = [random_text(draw) for _ in range(20)]
    return {"change": told(good, content), "texts": [[text, list(encoder.encode(text))] for text in texts]}
