"""README and docs/ say what is true: every command, argument, parameter, file and link they name exists.

A fenced `sh` or `python` block after a line `<!-- run -->` is run as well, in the order of its page, in an empty folder
that has the checkout's `config` in it. A block after `<!-- prints -->` is what the one before it prints, in part: its
lines in their order, where any number stands for any other, and `…` for anything.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from clipoint3d_ros import cli
from clipoint3d_ros.nodes.interface_pages import MEANINGS, NODES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
PROGRAMS = ("clipoint3d", "ros2", "make", "python")
NOTHING = ("COMMAND", "|")  # in a line that shows a form rather than a command
RUN, PRINTS = "<!-- run -->", "<!-- prints -->"
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
FOLDERS = ("config", "docs", "env", "launch", "rviz", "test", "clipoint3d_ros")


class Block(NamedTuple):
    """A fenced block: `line` of its first line in the page, language, text, and the remark before it."""

    line: int
    language: str
    text: str
    mark: str

    @property
    def runs(self) -> bool:
        return self.mark == RUN


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in re.finditer(r"(?P<mark>[^\n]*)\n(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)\n *```", text, re.S):
        body = re.sub(rf"^{found['indent']}", "", found["body"], flags=re.M)
        line = text.count("\n", 0, found.start("body")) + 1
        yield Block(line, found["language"], body, found["mark"].strip())


def shell_lines(text: str) -> Iterator[str]:
    """Commands of a shell block: continuations joined, here-documents as one with their command, comments gone."""
    lines = iter(re.sub(r"\\\n\s*", " ", text).splitlines())
    for line in lines:
        heredoc = re.search(r"<<'?(\w+)'?\s*$", line)
        if heredoc:
            held = [line]
            for each in lines:
                held.append(each)
                if each == heredoc[1]:
                    break
            yield "\n".join(held)
        elif line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(where, words) of every command of our programs, from shell blocks and from code in a sentence."""
    found = [(b.line, line) for b in blocks(page) if b.language == "sh" for line in shell_lines(b.text)]
    prose = re.sub(r"^ *```.*?^ *```", lambda m: "\n" * m[0].count("\n"), page.read_text(), flags=re.S | re.M)
    for code in re.finditer(r"`([^`]+)`", prose):
        words = " ".join(code[1].split())
        if words.startswith(tuple(f"{program} " for program in PROGRAMS)):
            found.append((prose.count("\n", 0, code.start()) + 1, words))
    for line, text in found:
        if "<<" not in text and not any(word in text.split() for word in NOTHING):
            for words in simple_commands(text):
                if words and words[0] in (*PROGRAMS, "torchrun"):
                    yield f"{page.relative_to(ROOT)}, about line {line}: {text}", words


def simple_commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a line, split at `;` and `&&` outside quotes; `…` stands for what is left out."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= {";", "&"}:
            yield words
            words = []
        elif word != "…":
            words.append(word)
    yield words


ALL = [found for page in PAGES for found in commands(page)]


def of(*start: str) -> list[tuple[str, list[str]]]:
    """Those commands whose words begin so, and the words after that."""
    found = [(where, words[len(start) :]) for where, words in ALL if tuple(words[: len(start)]) == start]
    return [(where, rest) for where, rest in found if rest]  # "`ros2 launch`" in a sentence is no command


def parse(words: list[str]) -> argparse.Namespace:
    """As the program would; raises ValueError with the parser's own complaint."""
    name, *rest = words
    if name not in cli.COMMANDS:
        raise ValueError(f"there is no command {name}")
    command = importlib.import_module(f"clipoint3d_ros.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=name)
    command.add_arguments(parser)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parser.parse_args(rest)
    except SystemExit as stop:
        if stop.code:
            raise ValueError(said.getvalue().strip().splitlines()[-1]) from None
        return argparse.Namespace()


def test_the_pages_have_commands_of_every_kind():
    """So that a change of the reader above is not taken for pages without a fault."""
    assert len(of("clipoint3d")) > 30
    for start in (
        ["ros2", "launch"],
        ["ros2", "param", "set"],
        ["ros2", "service", "call"],
        ["make"],
        ["python", "-m"],
    ):
        assert of(*start), f"no page has a command {' '.join(start)}"


def test_every_clipoint3d_line_is_one_that_the_program_takes():
    programs = [*of("clipoint3d"), *of("python", "-m", "clipoint3d_ros")]
    for where, words in programs:
        if words == ["--help"]:
            continue
        try:
            parse(words)
        except ValueError as error:
            pytest.fail(f"{where}\n  {error}")


def test_every_launch_argument_is_declared():
    for where, (package, file, *given) in of("ros2", "launch"):
        assert package == "clipoint3d_ros", where
        declared = launch_arguments(ROOT / "launch" / file)
        for name, _, value in (word.partition(":=") for word in given if not word.startswith("-")):
            assert name in declared, f"{where}\n  {file} declares no {name}, but {', '.join(declared)}"
            assert not declared[name] or value in declared[name], f"{where}\n  {name} takes {declared[name]}"


def launch_arguments(file: Path) -> dict[str, list[str]]:
    """{argument: its choices, where they are written out}, read without ROS's launch, which no wheel brings."""
    assert file.is_file(), f"there is no launch file {file.name}"
    found = {}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeclareLaunchArgument":
            choices = [key.value for key in node.keywords if key.arg == "choices"]
            with contextlib.suppress(ValueError, TypeError):
                choices = [str(each) for node in choices for each in ast.literal_eval(node)]
                found[ast.literal_eval(node.args[0])] = choices
                continue
            found[ast.literal_eval(node.args[0])] = []
    return found


def test_every_parameter_that_is_set_is_declared():
    for where, (node, name, *_) in of("ros2", "param", "set"):
        config, _ = NODES[node.lstrip("/")]
        fields = {field.name: field for field in dataclasses.fields(config)}
        assert name in fields, f"{where}\n  {node} has no parameter {name}"
        assert fields[name].metadata["live"], f"{where}\n  {name} cannot change live"


def test_every_service_that_is_called_is_served():
    for where, (service, kind, *_) in of("ros2", "service", "call"):
        node, _, name = service.strip("/").partition("/")
        assert f"~/{name}" in MEANINGS[node], f"{where}\n  {node} has no service {name}"
        page = (ROOT / "docs" / "topics.md").read_text()
        assert f"| serves | `~/{name}` | {kind} |" in page.partition(f"## `{node}`")[2], f"{where}\n  type {kind}"


def test_every_other_program_exists():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for where, words in of("make"):
        assert words[0] in targets, f"{where}\n  the Makefile has no target {words[0]}"
    for where, (module, *_) in of("python", "-m"):
        assert importlib.util.find_spec(module), f"{where}\n  no module {module}"
    for where, (package, program, *_) in of("ros2", "run"):
        if package == "clipoint3d_ros":
            assert f'f"{program} = {{PACKAGE}}' in (ROOT / "setup.py").read_text(), f"{where}\n  no program {program}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}, which does not exist"
        assert there.is_relative_to(ROOT), f"{page.name} links to {target}, outside the repository"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.M)
            assert anchor in {anchor_of(heading) for heading in headings}, f"{page.name}: no heading for {target}"


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    for name in re.findall(rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)", page.read_text()):
        assert (ROOT / name).exists() or list(ROOT.glob(f"{name}*")), f"{page.name} names {name}, which does not exist"


# Minutes are too long for every run of the tests.
SLOW = {"cad_to_robot.md"}
RUNS = [pytest.param(page, id=page.stem, marks=[pytest.mark.slow] * (page.name in SLOW)) for page in TUTORIALS]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", RUNS)
def test_a_tutorial_runs_as_written(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(ROOT / "config")
    marked = [block for block in blocks(page) if block.mark in (RUN, PRINTS)]
    assert any(block.runs for block in marked), f"no block of {page.name} is marked {RUN}"
    printed = ""
    for block in marked:
        where = f"{page.name}, after line {block.line}"
        if block.mark == PRINTS:
            missed = first_missed(block.text, printed)
            assert not missed, f"{where}: not printed, or not in this order: {missed}\n{printed}"
            continue
        if block.language == "python":
            exec(compile(block.text, page.name, "exec"), {})
        else:
            for line in shell_lines(block.text):
                run_line(line, f"{where}: {line}")
        printed = capsys.readouterr().out
    for name in re.findall(r"`((?:demo_output|runs)/[\w./]+)`", page.read_text()):
        assert Path(name).exists(), f"{page.name} speaks of {name}, which its commands do not make"


def first_missed(told: str, printed: str) -> str:
    """The first line of `told` that `printed` lacks after those before it; "" where it has them all."""
    there = iter(printed.splitlines())
    for line in filter(str.strip, told.splitlines()):
        form = re.compile(r"\s+".join(map(form_of, line.split())))
        if line.strip() != "…" and not any(form.search(said) for said in there):
            return line
    return ""


def form_of(word: str) -> str:
    """A regular expression for what a word of a page stands for."""
    return ".*".join(NUMBER.pattern.join(map(re.escape, NUMBER.split(part))) for part in word.split("…"))


def test_what_a_page_says_is_printed_is_held_against_what_is():
    printed = "class  objects\nbox        5   93.1 %\nmug        2   50 %\nlatency p50 180 ms"
    assert not first_missed("class objects\n…\nmug 3 100.0 %\nlatency …", printed)
    assert first_missed("mug 2 50 %\nbox 5 93 %", printed) == "box 5 93 %", "in this order"
    assert first_missed("class objects\ncup 2 50 %", printed) == "cup 2 50 %"


def run_line(line: str, where: str) -> None:
    words = shlex.split(line, comments=True) if "<<" not in line else []
    if words[:1] == ["clipoint3d"]:
        assert cli.main(words[1:]) == 0, where
    else:
        done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True)
        assert done.returncode == 0, f"{where}\n{done.stderr}"
        print(done.stdout, end="")
