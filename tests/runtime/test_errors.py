"""The sentence of an error commands no terminal, has bytes in UTF-8, and survives the way between processes."""

import ast
import pickle
import re
from pathlib import Path

import pytest

import ldm_export.errors
from ldm_runtime import errors
from ldm_runtime.errors import MAX_MESSAGE, FormatError, InputError, LdmError, PackageError, printable, refused_as
from ldm_runtime.notice import Notice

ROOT = Path(__file__).parents[2]

HOSTILE = "a\x1b[2J\x00\r\x7f\x9b\u061c\u200f\u2028\u202e\u2066\ud800\udcff\xad\u200b\ufeff\U000e0041"
ESCAPED = r"a\x1b[2J\x00\x0d\x7f\x9b\u061c\u200f\u2028\u202e\u2066\ud800\udcff\xad\u200b\ufeff\U000e0041"


def test_what_commands_a_terminal_is_escaped():
    assert printable(HOSTILE) == ESCAPED
    assert printable(ESCAPED) == ESCAPED  # once is enough


@pytest.mark.parametrize("text", ["", "two\nlines\tand a tab", "naïve 日本語 עברית 👩\u200d🚀", r"C:\x1b"])
def test_other_text_stays(text):
    assert printable(text) == text


KINDS = [
    each
    for module in (errors, ldm_export.errors)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, LdmError) and each is not FormatError
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_printable_and_picklable(kind):
    error = kind(f"{HOSTILE} is wrong", code="file.hash")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind and str(copy) == str(error) == f"{ESCAPED} is wrong"
    assert copy.code == "file.hash" and kind("x").code == kind.code
    str(error).encode("utf-8")


def test_a_notice_is_printable_picklable_and_never_fills_a_screen():
    notice = Notice("profile", f"{HOSTILE}\n is wrong")
    copy = pickle.loads(pickle.dumps(notice))
    assert copy == notice and str(copy) == f"{ESCAPED}\\x0a is wrong"
    assert len(str(Notice("profile", "x" * 10**6))) <= MAX_MESSAGE


def test_a_fact_about_a_file_is_printable_and_picklable():
    error = FormatError(HOSTILE, f"has {HOSTILE}", "json.syntax")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == f"{ESCAPED} has {ESCAPED}" and copy.code == "json.syntax"


def test_a_fact_becomes_the_error_of_its_border_with_its_code():
    def refuse(error):
        with refused_as(PackageError, "fetch it again"):
            raise error

    with pytest.raises(PackageError, match="^a/x is cut off; fetch it again$") as caught:
        refuse(FormatError("a/x", "is cut off", "weights.layout"))
    assert caught.value.code == "weights.layout"
    with pytest.raises(PackageError, match="^a/x is a stub; run `git lfs pull` where it came from$"):
        refuse(FormatError("a/x", "is a stub", "file.lfs-stub"))
    with pytest.raises(PackageError, match="^a/x cannot be read; check its permissions, its links and the disk$"):
        refuse(FormatError("a/x", "cannot be read", "file.unreadable"))
    with pytest.raises(InputError, match="^other$"):
        refuse(InputError("other"))


def test_a_border_that_knows_more_of_a_code_says_so():
    special = {"json.syntax": "write it again"}
    for code, advice in (("json.syntax", "write it again"), ("json.depth", "fetch it again")):
        with (
            pytest.raises(PackageError, match=f"^a/x is cut off; {advice}$"),
            refused_as(PackageError, "fetch it again", special),
        ):
            raise FormatError("a/x", "is cut off", code)


ALL_CODES = {**errors.CODES, **ldm_export.errors.CODES}


def codes_in(file: Path) -> set[str]:
    """All texts of a file that are spelt as codes are; of the tables themselves only the classes' own."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    tables = [node.value for node in tree.body if isinstance(node, ast.AnnAssign | ast.Assign)]
    skipped = {id(each) for table in tables if isinstance(table, ast.Dict) for each in ast.walk(table)}
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
    }
    classes = "|".join({code.partition(".")[0] for code in ALL_CODES})
    return {text for text in texts if re.fullmatch(rf"({classes})\.[a-z-]+", text) and not text.endswith(".json")}


def test_every_code_that_is_used_is_in_the_table_and_the_other_way_round():
    files = [file for folder in ("runtime/ldm_runtime", "ldm_export") for file in (ROOT / folder).rglob("*.py")]
    assert set().union(*map(codes_in, files)) == ALL_CODES.keys()


def test_every_refusal_of_a_package_names_its_code():
    for file in [*(ROOT / "runtime").rglob("*.py"), *(ROOT / "ldm_export").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "PackageError":
                assert any(keyword.arg == "code" for keyword in node.keywords), f"{file}:{node.lineno}"


def test_the_page_of_the_documentation_has_every_code():
    page = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `([a-z]+\.[a-z-]+)` \| (.+) \|$", page, flags=re.MULTILINE)) == ALL_CODES


def test_what_is_no_text_is_left_as_it_is():
    assert PackageError("x", 3).args == ("x", 3)


def test_a_long_message_keeps_its_beginning_and_end():
    sentence = str(InputError(f"the key {'x' * 100_000} is unknown; known are a, b"))
    assert len(sentence) <= MAX_MESSAGE
    assert sentence.startswith("the key xxx") and sentence.endswith("is unknown; known are a, b")
    assert "characters left out" in sentence


def test_a_message_that_fits_is_whole():
    assert str(InputError("y" * MAX_MESSAGE)) == "y" * MAX_MESSAGE
