"""Checks the commits since main's last tag against the rule of CONTRIBUTING.md: `make commits`.

A program sees only a part of the rule: the subject is `scope: what the commit does`, has at most 72
characters and no full stop, and does not begin with another form of a verb than the imperative; a commit that
changes code has a body. Merges, and reverts as git writes them, are accepted.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The rule counts for what comes after this commit, as long as there is no tag behind it.
BASE = "68779df35ba6392025557f386a77a7dc19f2ee17"
SUBJECT_CHARACTERS_MAX = 72
# One or several scopes: `http1`, `http1, http2`, `request ids`.
SUBJECT = re.compile(r"(?P<scopes>[a-z0-9][\w.+-]*(?:[ ,]+[a-z0-9][\w.+-]*)*): (?P<text>\S.*)")
# A change to one of these is a change of code; to a text or a record of figures is not.
CODE = (".rs", ".py", ".pyi", ".toml", ".c", ".lua", ".sh")
# Words that end like a past tense, a third person or a gerund, and are imperatives all the same.
IMPERATIVE = frozenset([
    *("access", "address", "alias", "bias", "bring", "bypass", "compress", "cross", "discuss", "embed"),
    *("exceed", "express", "feed", "focus", "guess", "heed", "miss", "need", "pass", "ping", "press"),
    *("proceed", "process", "seed", "shed", "speed", "spread", "stress", "string", "suppress", "toss"),
])  # fmt: skip
# What begins a description of a state rather than an order.
NOT_IMPERATIVE = frozenset([
    *("a", "also", "an", "better", "each", "every", "how", "its", "more", "new", "no", "nobody", "nothing"),
    *("now", "one", "some", "the", "these", "this", "what", "which"),
])  # fmt: skip


@dataclass(frozen=True)
class Commit:
    """What the rule looks at."""

    number: str
    message: str
    files: tuple[str, ...]
    is_merge: bool = False

    @property
    def subject(self) -> str:
        """The first line."""
        return self.message.partition("\n")[0]

    @property
    def body(self) -> str:
        """The text below the subject, without lines such as `Signed-off-by: …`."""
        lines = self.message.splitlines()[1:]
        return "\n".join(line for line in lines if not re.match(r"[A-Z][\w-]+-by: ", line)).strip()


def is_imperative(word: str) -> bool:
    """Whether a verb may be an imperative, as far as its ending tells."""
    word = word.lower().strip(",;.")
    if word in IMPERATIVE:
        return True
    if word in NOT_IMPERATIVE:
        return False
    third_person = word.endswith("s") and not word.endswith(("ss", "us"))
    return not (third_person or word.endswith(("ed", "ing")))


def findings(commit: Commit) -> Iterator[str]:
    """What is wrong with a commit."""
    if commit.is_merge or commit.subject.startswith('Revert "'):
        return
    if len(commit.subject) > SUBJECT_CHARACTERS_MAX:
        yield f"the subject has {len(commit.subject)} characters; at most {SUBJECT_CHARACTERS_MAX}"
    if commit.subject.endswith("."):
        yield "the subject ends with a full stop"
    parts = SUBJECT.fullmatch(commit.subject)
    if not parts:
        yield "the subject has no scope: `http1: refuse bare CR`"
    elif not is_imperative(first := parts["text"].split()[0]):
        yield f"“{first}” is no imperative: say what the commit does as an order, `refuse bare CR`"
    if len(commit.message.splitlines()) > 1 and commit.message.splitlines()[1]:
        yield "the line below the subject is not empty"
    if not commit.body and any(is_code(name) for name in commit.files):
        yield "it changes code and has no body that says why"


def is_code(name: str) -> bool:
    """Whether a file is code: by its ending, or a Makefile or a script without one."""
    is_script = name.startswith(".ci/") and "." not in Path(name).name
    return is_script or name.endswith(CODE) or Path(name).name == "Makefile"


def git(*words: str, folder: Path = ROOT) -> str | None:
    """What git prints, without the last line break; None if it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], check=False, capture_output=True, text=True, timeout=60
        )
    except OSError:
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def where_to_begin(folder: Path, base: str) -> tuple[str | None, str]:
    """The commit after which the rule counts, and its name; or None and why nothing can be checked."""
    top = git("rev-parse", "--show-toplevel", folder=folder)
    if top is None or Path(top) != folder.resolve():
        return None, "this is no git repository"
    if git("rev-parse", "--verify", "--quiet", "HEAD", folder=folder) is None:
        return None, "there is no commit"
    if git("merge-base", "--is-ancestor", base, "HEAD", folder=folder) is None:
        shallow = git("rev-parse", "--is-shallow-repository", folder=folder) == "true"
        why = "the clone is shallow" if shallow else "the history of HEAD does not have it"
        return None, f"{base[:12]}, after which the rule counts, is not there: {why}"
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD", folder=folder)
    if tag and git("merge-base", "--is-ancestor", base, tag, folder=folder) is not None:
        return tag, tag
    return base, base[:12]


def commits(since: str, folder: Path) -> Iterator[Commit]:
    """The commits after `since`, the oldest first."""
    listed = git("rev-list", "--reverse", "--parents", f"{since}..HEAD", folder=folder) or ""
    for line in listed.splitlines():
        number, *parents = line.split()
        message = git("show", "--no-patch", "--format=%B", number, folder=folder) or ""
        changed = git("diff-tree", "--no-commit-id", "--name-only", "-r", number, folder=folder) or ""
        yield Commit(number, message.strip(), tuple(changed.splitlines()), len(parents) > 1)


def main(folder: Path = ROOT, base: str = BASE) -> int:
    """Checks the repository of a folder; returns the exit status."""
    since, name = where_to_begin(folder, base)
    if since is None:
        print(f"commits: nothing is checked: {name}")
        return 0
    wrong, count = 0, 0
    for commit in commits(since, folder):
        count += 1
        for finding in findings(commit):
            wrong += 1
            print(f"{commit.number[:12]} {commit.subject}\n    {finding}", file=sys.stderr)
    print(f"commits: {count} since {name}, {wrong} findings")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
