"""The options with which an engine computes in float32: one table in both runtimes."""

import re
from pathlib import Path

from ldm_runtime.engines import lossy_options

SOURCE = Path(__file__).parents[3] / "runtime" / "cpp" / "src" / "engines" / "components.cpp"
ROW = re.compile(r'\{"([\w:]+)", "(\w+)", \{("[^}]*")\}\}')


def test_both_tables_are_equal() -> None:
    text = SOURCE.read_text(encoding="utf-8")
    table = text[text.index("exact_options[] = {") : text.index("};", text.index("exact_options[] = {"))]
    found = {(engine, name): tuple(re.findall('"([^"]*)"', values)) for engine, name, values in ROW.findall(table)}
    expected = {
        (engine, name): exact for engine, options in lossy_options._EXACT.items() for name, exact in options.items()
    }
    assert found == expected and len(found) == table.count('{"') - len(found)
