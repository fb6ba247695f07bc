"""The documentation as the tests read it: commands, inline code, links and anchors of Markdown files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.server import TESTS

ROOT = TESTS.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^( *)```(\w*)$")
INLINE_CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"#+ +(.+)")
ASSIGNMENT = re.compile(r"[A-Z_]+=")
# What may stand before a command and runs it.
RUNNERS = (
    *(["sudo"], ["exec"], ["python", "-m"], ["docker", "exec", "CONTAINER"]),
    *(["opentelemetry-instrument"], ["ddtrace-run"], ["newrelic-admin", "run-program"]),
)


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is the number of its first line."""

    page: Path
    line: int
    language: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A `portico` command: what follows that word, and the variables set for it."""

    place: str
    words: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def read(page: Path) -> tuple[list[Block], str]:
    """The fenced blocks of a page, and its text without them; lines keep their numbers."""
    blocks: list[Block] = []
    prose: list[str] = []
    start = None
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        prose.append("" if fence or start else line)
        if fence and start is None:
            start = (number, fence[2])
        elif fence and start:
            blocks.append(Block(page, start[0] + 1, start[1], tuple(lines[start[0] : number - 1])))
            start = None
    assert start is None, f"{page}: a fence is not closed"
    return blocks, "\n".join(prose)


def place(page: Path, line: int) -> str:
    """Where something stands, for a failure."""
    return f"{page.relative_to(ROOT)}:{line}"


def command_lines(block: Block) -> Iterator[tuple[int, str]]:
    """What a reader would type of a block, with line numbers: all of `sh`, prompted lines of `console`."""
    pending = ""
    for number, line in enumerate(block.lines, block.line):
        if not pending and block.language == "console":
            if not line.startswith(("$ ", "# ")):
                continue
            line = line[2:]
        pending += line.strip()
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        yield number, pending
        pending = ""


def portico_command(text: str, where: str) -> Command | None:
    """`text` as a portico command; None where another program is run."""
    text = re.sub(r'"?\$\([^)]*\)"?', "1", text).replace("$PORT", "8000")
    words = shlex.split(re.split(r" [|>&]", text)[0], comments=True)
    variables = []
    while words and ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        variables.append((name, value))
    for runner in RUNNERS:
        if words[: len(runner)] == runner:
            words = words[len(runner) :]
    if not words or words[0].rpartition("/")[2] != "portico":
        return None
    return Command(where, tuple(words[1:]), tuple(variables))


def portico_commands() -> list[Command]:
    """Every portico command of the documentation, of its blocks and its inline code."""
    commands = []
    for page in PAGES:
        blocks, prose = read(page)
        for block in blocks:
            if block.language in ("sh", "console"):
                texts = command_lines(block)
                commands += [portico_command(text, place(page, number)) for number, text in texts]
        for text in INLINE_CODE.findall(prose.replace("\n", " ")):
            if text.startswith("portico "):
                commands.append(portico_command(text, str(page.relative_to(ROOT))))
    return [command for command in commands if command]


def python_block(page: Path, beginning: str) -> str:
    """The Python block of a page that begins so."""
    blocks, _ = read(page)
    texts = ["\n".join(block.lines) for block in blocks if block.language == "python"]
    (text,) = [text for text in texts if text.startswith(beginning)]
    return text + "\n"


def anchors(page: Path) -> set[str]:
    """The anchors that code hosts, and docs/hooks.py, give to the headings of a page."""
    _, prose = read(page)
    headings = [match[1] for line in prose.splitlines() if (match := HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    """The targets of the links of a page that stay in the repository."""
    _, prose = read(page)
    prose = INLINE_CODE.sub("", prose)
    return (link for link in LINK.findall(prose) if not re.match(r"[a-z]+:", link))
