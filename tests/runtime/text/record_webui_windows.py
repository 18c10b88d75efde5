"""Writes tests/runtime/webui_windows.json: the windows that AUTOMATIC1111's web UI makes of prompts.

    python tests/runtime/text/record_webui_windows.py CHECKOUT

CHECKOUT has modules/prompt_parser.py and modules/sd_hijack_clip.py of the web UI (AGPL), which are run, not copied. The
file here is of their state of October 2023, from github.com/VikingMew/minimal-sd at 692c22d, with the tokenizer of
tests/golden. Its prompts mean the same there and here; docs/sampling.md names what does not.
"""

import itertools
import json
import random
import sys
import types
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2]
TOKENIZER = TESTS / "golden" / "tokenizer" / "tokenizer.json"
OUT = Path(__file__).parent / "webui_windows.json"
WORDS = "red blue apple cat face smiling house tree with of the heart 3d style flag star hat green big"


def main() -> None:
    clip = load_webui(Path(sys.argv[1]))
    cases = [{"prompt": prompt, "windows": windows(clip, prompt)} for prompt in prompts()]
    OUT.write_text("[" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "]\n")


def load_webui(checkout: Path) -> Any:
    """The web UI's class that makes windows, around our tokenizer; what it imports beside is left empty."""
    from transformers import CLIPTokenizerFast

    modules = types.ModuleType("modules")
    modules.__path__ = [str(checkout / "modules")]
    sys.modules["modules"] = modules
    for name in ("shared", "devices", "sd_hijack", "sd_emphasis", "lark"):
        module: Any = types.ModuleType(name)
        module.opts = types.SimpleNamespace(enable_emphasis=True, emphasis="Original", comma_padding_backtrack=20)
        module.StableDiffusionModelHijack = object
        module.Lark = lambda *arguments, **options: None
        sys.modules[name if name == "lark" else f"modules.{name}"] = module
        setattr(modules, name, module)
    from modules.sd_hijack_clip import FrozenCLIPEmbedderWithCustomWords  # type: ignore[import-not-found]

    no_embeddings = types.SimpleNamespace(find_embedding_at_position=lambda tokens, position: (None, None))
    tokenizer = CLIPTokenizerFast(tokenizer_file=str(TOKENIZER))
    return FrozenCLIPEmbedderWithCustomWords(
        types.SimpleNamespace(tokenizer=tokenizer), types.SimpleNamespace(embedding_db=no_embeddings)
    )


def windows(clip: Any, prompt: str) -> list[list[tuple[float, list[int]]]]:
    """Of each window the tokens between begin and the end tokens that fill it, in runs of one weight."""
    made = []
    for chunk in clip.tokenize_line(prompt)[0]:
        assert len(chunk.tokens) == len(chunk.multipliers) == 77 and chunk.tokens[0] == clip.id_start
        pairs = [pair for pair in zip(chunk.tokens, chunk.multipliers, strict=True) if pair[0] != clip.id_end]
        runs = itertools.groupby(pairs[1:], key=lambda pair: pair[1])
        made.append([(weight, [token for token, _ in run]) for weight, run in runs])
    return made


def prompts() -> list[str]:
    """Written ones around the places where a window may end, and drawn ones."""
    few = "red " * 54
    made = [
        "",
        "red",
        r"a (red:1.3), [blue] \(x\)",
        "red BREAK blue",
        "red, " * 80,
        "red " * 75,
        "red " * 76 + "BREAK blue",
    ]
    for after in (0, 1, 18, 19, 20, 21):  # words between the comma and the end of the first window
        made.append("red " * (74 - after) + ", " + "blue " * after + "(tree:1.5) house")
    made += [f"{few}, {'blue ' * 20}, red", f"{few}{'blue ' * 21}, red", f"{few}, ({'blue ' * 60}:0.5)"]
    draw = random.Random(16)
    return [*made, *(drawn(draw, 0) for _ in range(12))]


def drawn(draw: random.Random, depth: int) -> str:
    words, parts = WORDS.split(), []
    for _ in range(draw.randrange(20, 90) if depth == 0 else draw.randrange(1, 12)):
        kind = draw.random()
        if kind < 0.75 or depth == 3:
            parts.append(draw.choice(words) + draw.choice(["", "", "", ","]))
        elif kind < 0.83:
            parts.append(f"({drawn(draw, depth + 1)})")
        elif kind < 0.88:
            parts.append(f"[{draw.choice(words)}]")
        elif kind < 0.97 or depth > 0:
            parts.append(f"({drawn(draw, depth + 1)}:{draw.choice(['1.3', '0.5', '2', '.7'])})")
        else:
            parts.append(f"BREAK {draw.choice(words)}")
    return " ".join(parts)


if __name__ == "__main__":
    main()
