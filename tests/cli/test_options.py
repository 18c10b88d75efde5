"""Options of every verb: a path or a number that cannot be is one sentence."""

import click
import pytest
from click.testing import Result

from ldm_export.cli.main import verbs
from ldm_export.cli.options import PATH
from tests.cli.calling import call, refused, snapshot


def parameters(kind: type) -> list[tuple[str, str]]:
    """(verb, option or argument) of all whose type is `kind`."""
    return [
        (verb, parameter.opts[0])
        for verb, command in verbs.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, kind)
    ]


def with_value(verb: str, option: str, value: str) -> Result:
    """The verb with what it asks for, and one value."""
    chosen = []
    for parameter in verbs.commands[verb].params:
        if parameter.opts[0] == option or parameter.required:
            given = value if parameter.opts[0] == option else "x"
            chosen += [given] if parameter.param_type_name == "argument" else [parameter.opts[0], given]
    return call(verb, *chosen)


@pytest.mark.parametrize(("verb", "option"), parameters(type(PATH)))
def test_a_path_that_cannot_be_is_one_sentence_in_every_verb(verb, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value, reason in (("a" * 300, "File name too long"), ("a\0b", "not a path"), ("b/" * 3000, "too long")):
        refused(with_value(verb, option, value), f"^error: {option} is .*{reason}")
    assert snapshot(tmp_path) == {}


def test_every_path_is_checked():
    """A plain click.Path lets through what no file system can look up, and traces back at NUL."""
    kinds = {type(each.type) for verb in verbs.commands.values() for each in verb.params}
    assert type(PATH) in kinds and click.Path not in kinds


ABSURD = ("1e9", "1000000000", "-1", "nan", "inf", "9" * 5000)


@pytest.mark.parametrize(
    ("verb", "option"),
    [
        ("run", "--count"),
        ("run", "--threads"),
        ("interpolate", "--threads"),
        ("interpolate", "--seconds"),
        ("plan", "--steps"),
        ("plan", "--strength"),
        ("bench", "--rounds"),
        ("bench", "--steps"),
        ("bench", "--threads"),
        ("bench", "--size"),
        ("tune", "--minutes"),
        ("tune", "--size"),
        ("data", "--size"),
    ],
)
@pytest.mark.parametrize("value", ABSURD)
def test_an_absurd_number_is_refused_at_once(verb, option, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = {"run": ("--prompt", "x"), "interpolate": ("--prompt", "x", "--out", "a.gif"), "data": ("--out", "d")}
    result = call(verb, *arguments.get(verb, ()), f"{option}={value}")
    assert result.exit_code in (1, 2), result.output  # 2: of another form
    assert "rror: " in result.stderr and "Traceback" not in result.output
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-1", "1e300"])
def test_an_absurd_limit_of_memory_is_refused(value, tmp_path):
    refused(
        call("build", "--out", tmp_path / "out", f"--max-memory={value}"), "--max-memory got .*, expected a positive"
    )
