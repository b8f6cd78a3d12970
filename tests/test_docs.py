"""What README and docs say can be typed exists: commands, their options, files, links and Python."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from handmesh.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # it tells of what there was
COMMAND = re.compile(r"(?<![-\w./])(?:handmesh|python demo/(?=webcam|image|stream)) ?((?:\\\n|[^\n`#|])*)")
LINK = re.compile(r"\]\(([^)#]+)(#[^)]*)?\)")
PICTURE = re.compile(r"!\[[^]]*\]\(([^)]+)\)")
SCRIPT = re.compile(r"python ((?:scripts|demo|tests)/[\w/]+\.py)")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z0-9.-]*")


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """The names of commands and the options that they are given."""
    found = []
    for match in COMMAND.finditer(text):
        words = match[1].replace("\\\n", " ").replace(".py", "").split()
        name = next((n for n in (" ".join(words[:2]), *words[:1]) if n in COMMANDS), None)
        if name:
            preset = words[1:2] if name == "train" else []
            found.append((" ".join([name, *preset]), OPTION.findall(match[1])))
    return found


@cache
def help_of(command: str) -> str:
    from contextlib import redirect_stdout
    from io import StringIO

    text = StringIO()
    with redirect_stdout(text):
        assert main([*command.split(), "--help"]) == 0, command
    return text.getvalue()


def test_commands_are_recognised():
    text = (
        "`handmesh data synthetic --count 3`\npython demo/webcam.py --view side  # --no\nhandmesh train configs/a.yaml"
    )
    assert commands_in(text) == [
        ("data synthetic", ["--count"]),
        ("webcam", ["--view"]),
        ("train configs/a.yaml", []),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_they_are_given(page, monkeypatch):
    pytest.importorskip("lightning_fabric", reason="the docs name commands of the train extra")
    pytest.importorskip("websockets", reason="and of the stream extra")
    monkeypatch.chdir(ROOT)
    for command, options in commands_in(page.read_text()):
        name, _, preset = command.partition(" configs/")
        if preset:
            assert (ROOT / "configs" / preset).is_file(), command
        missing = [option for option in options if option not in help_of(command if preset else name)]
        assert not missing, f"{page.name}: {command} has no {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = [match[1] for match in LINK.finditer(page.read_text()) if "://" not in match[1]]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_is_python(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
        ast.parse(block)


def test_wheels_that_the_docs_name_are_of_the_constrained_versions():
    named = re.findall(r"\b(torch(?:vision)?==[\d.]+)", (ROOT / "docs" / "training.md").read_text())
    assert len(named) == 2 and {*named} <= {*(ROOT / "constraints.txt").read_text().split()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_exist(page):
    assert [path for path in SCRIPT.findall(page.read_text()) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pictures_can_be_made_again(page):
    """The command stands below, or the sign of what needs other data. Drawings (.svg) are their own source."""
    text = page.read_text()
    below = {match[1]: text[match.start() :][:900] for match in PICTURE.finditer(text) if not match[1].endswith(".svg")}
    assert [name for name, words in below.items() if not re.search(r"`(python scripts/|handmesh )|†", words)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_figures_that_need_other_data_are_explained(page):
    """The sign is followed, where it first explains itself, by what is needed and the command."""
    text = page.read_text()
    assert "†" not in text or re.search(r"†[^|]*?not\s+distributed[^|]*?(`handmesh |`python |model_card\.md)", text)
