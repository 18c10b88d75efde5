"""The README, the documentation and the help texts tell the truth: every verb is there, every command parses."""

import re
import shlex
from pathlib import Path

import click
import pytest

from ldm_export.cli.main import verbs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))]
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def shell(page: str) -> str:
    """The shell blocks of a page."""
    return "\n".join(re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL))


def commands(text: str) -> list[str]:
    """Every `ldm-export …` call in a text: in shell blocks and in the indented examples of a help text."""
    found = re.findall(r"^\s*(?:.*&& )?(?:\.venv/bin/)?ldm-export (.+)$", text, flags=re.MULTILINE)
    return [command.strip() for command in found]


def parse(command: str) -> str:
    """Parse, do not run; returns the verb. A usage error raises."""
    arguments = shlex.split(command)
    context = verbs.make_context("ldm-export", arguments)
    name, verb, rest = verbs.resolve_command(context, context._protected_args + context.args)
    assert name is not None and verb is not None
    verb.make_context(name, rest, parent=context)
    return name


HELP = {name: verb.help for name, verb in verbs.commands.items()}


@pytest.mark.parametrize("verb", sorted(verbs.commands))
def test_every_verb_has_an_example_in_the_readme(verb):
    assert any(parse(command) == verb for command in commands(shell(README)))


@pytest.mark.parametrize("verb", sorted(verbs.commands))
def test_the_help_of_every_verb_has_a_runnable_example(verb):
    examples = commands(HELP[verb])
    assert examples
    assert verb in {parse(example) for example in examples}


@pytest.mark.parametrize("command", sorted({command for page in PAGES for command in commands(shell(page))}))
def test_every_command_of_the_documentation_parses(command):
    parse(command)


@pytest.mark.parametrize("command", ["run", "build", "run --prompt x --steps many", "draw --prompt x"])
def test_a_wrong_command_does_not_parse(command):
    with pytest.raises(click.UsageError):
        parse(command)


def test_every_option_has_a_help_text():
    for name, verb in verbs.commands.items():
        for parameter in verb.params:
            assert not isinstance(parameter, click.Option) or parameter.help, f"{name} {parameter.name}"


def test_ci_runs_the_two_commands_of_the_readme():
    blocks = re.findall(r"```sh\n(python3 -m venv .+|\.venv/bin/pip install .+)\n```", README)
    assert len(blocks) == 2
    for block in blocks:
        assert f"\n{block}\n" in CI


def test_ci_runs_the_two_commands_of_the_cpp_runtime():
    page = (ROOT / "runtime" / "cpp" / "README.md").read_text(encoding="utf-8")
    first, second = shell(page).splitlines()[:2]
    assert first.startswith("cmake -S . -B build") and second.startswith("ctest --test-dir build")
    for line in (first.replace("/path/to/libonnxruntime.so", '"${onnxruntime[0]}"'), second):
        assert re.search(rf"^ *{re.escape(line)}$", CI, flags=re.MULTILINE), line
