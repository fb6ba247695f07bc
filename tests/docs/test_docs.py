"""The documentation: its site builds, links resolve, commands are understood, the first minute works."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from harness.another_user import OPENED_UP, ROOTS
from harness.browser import Browser
from harness.documentation import (
    INLINE_CODE,
    PAGES,
    README,
    ROOT,
    Command,
    anchors,
    command_lines,
    links,
    portico_commands,
    python_block,
    read,
)
from harness.http_client import request_bytes
from harness.scripts import load
from harness.server import command, run_to_end, server_environment

SETTINGS = ROOT / "docs/reference/settings.md"
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
# Options of other programs that stand alone in the text.
FOREIGN_FLAGS = {
    *("--cpus", "--tmpfs"),  # docker run
    *(
        "--insecure",
        "--ipv6",
        "--noreload",
        "--nostatic",
        "--nothreading",
        "--skip-checks",
    ),  # manage.py runserver
    *("--debug", "--debugger", "--no-debugger", "--no-reload"),  # flask
}
VARIABLE = re.compile(r"\bPORTICO_[A-Z_]*[A-Z]\b")
# A word that could name an application, and so gets a module to be imported.
APPLICATION = re.compile(r"([a-z_]\w*(?:\.\w+)*)(?::(\w+)(?:\(\))?)?")
STUB = "def application(environ, start_response): pass\n"
WITH_PROCESS = (
    *("status", "metrics", "requests", "stacks", "top", "web", "cancel", "profile", "memory", "reload"),
    "upgrade",
)
# What may stand behind the process id.
FORMS = {
    *("--json", "--prometheus", "--grouped", "--once", "--trace-url"),
    *("--rate", "--cpu", "--format", "--slot", "--long", "--external"),  # profile
    *("--trace", "--yes"),  # memory
}
# Targets of make that the text names, and options and variables that may stand before one.
MAKE = re.compile(r"make((?: [A-Z_]+=\S+)*)((?: [a-z][a-z0-9-]*)*)(?: |$)")
# What is wider than its place, or than the screen.
TOO_WIDE = """
JSON.stringify([...document.querySelectorAll("html, .md-content :is(table, img), .md-typeset__scrollwrap")]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && one.tagName != "IMG"
        || one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(one => one.tagName + ": " + one.innerText.slice(0, 40)))
"""
FETCHED = "JSON.stringify(performance.getEntriesByType('resource').map(entry => entry.name))"


class Html(HTMLParser):
    """What a page of the site refers to, its anchors, and its text outside of preformatted parts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.parts: list[str] = []
        self.text: list[str] = []
        self.preformatted = 0
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.preformatted += tag in ("pre", "script", "style", "code")
        if values.get("id"):
            self.ids.add(values["id"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag in ("img", "link", "script") and (part := values.get("src") or values.get("href")):
            self.parts.append(part)

    def handle_endtag(self, tag: str) -> None:
        self.preformatted -= tag in ("pre", "script", "style", "code")

    def handle_data(self, data: str) -> None:
        if not self.preformatted:
            self.text.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Html]:
    """The pages of the site, built anew."""
    if not importlib.util.find_spec("material"):
        pytest.skip("pip install -r requirements/docs.txt")
    folder = tmp_path_factory.mktemp("site").resolve()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    return {path: Html(path) for path in folder.rglob("*.html")}


def test_every_page_is_on_the_site(site):
    assert len(site) >= len(PAGES)


def test_every_page_is_in_navigation_and_index():
    folder = ROOT / "docs"
    pages = {page.relative_to(folder).as_posix() for page in folder.rglob("*.md")} - {"index.md"}
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    assert pages - set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)) == set()
    assert pages - set(links(folder / "index.md")) == set()


def named_targets(text: str) -> set[str]:
    """The targets that a make command has."""
    match = MAKE.match(f"{text} ")
    return set(match[2].split()) if match else set()


def test_every_make_target_in_text_exists():
    known = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"serve", "test", "bench-compute"} <= known
    assert named_targets("make PYTHON=python3.13 test-python PYTEST=x") == {"test-python"}
    pages = [*PAGES, *ROOT.glob("*.md"), *ROOT.glob("*/README.md")]
    wrong, found = [], set()
    for page in pages:
        blocks, prose = read(page)
        texts = INLINE_CODE.findall(prose.replace("\n", " "))
        texts += [
            text
            for block in blocks
            if block.language in ("sh", "console")
            for _, text in command_lines(block)
        ]
        named = set().union(*map(named_targets, texts))
        found |= named
        wrong += [f"{page.relative_to(ROOT)}: make {name}" for name in named - known]
    assert not wrong
    assert {"test-python", "bench", "instructions", "docs-settings"} <= found


def test_changelog_has_a_section_for_this_version():
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    headings = re.findall(
        r"^## \[(.+)\] - (?:unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert headings[0] == version
    assert len(headings) == (ROOT / "CHANGELOG.md").read_text().count("\n## ")


def test_front_page_chart_has_figures_of_run(tmp_path):
    drawn = tmp_path / "drawn.svg"
    subprocess.run([sys.executable, "bench/front_page.py", "--to", drawn], check=True, cwd=ROOT, timeout=30)
    assert drawn.read_text() == (ROOT / "docs/images/benchmark.svg").read_text()


def test_links_of_the_site_resolve(site):
    wrong = []
    for page in site.values():
        for link in [*page.links, *page.parts]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or page.path.name == "404.html":
                continue
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            known = target.exists() and (
                not parts.fragment or target not in site or parts.fragment in site[target].ids
            )
            wrong += [] if known else [f"{page.path.name}: {link}"]
    assert not wrong


def test_site_fetches_nothing_from_elsewhere(site):
    assert not [(page.path.name, part) for page in site.values() for part in page.parts if "//" in part]


def test_style_sheets_fetch_nothing_from_elsewhere(site):
    sheets = list(root_of(site).rglob("*.css"))
    assert sheets
    elsewhere = re.compile(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//")
    assert not [sheet.name for sheet in sheets if elsewhere.search(sheet.read_text())]


def root_of(site: dict[Path, Html]) -> Path:
    """The folder of the site."""
    return min((path.parent for path in site), key=lambda folder: len(folder.parts))


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which the files of a folder are served meanwhile."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.mark.timeout(150)  # A browser opens each page, beside whatever else the machine does.
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_screens_and_fetch_nothing_elsewhere(site, width):
    root, wrong = root_of(site), []
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    with served(root) as address, Browser() as browser:
        browser.call("Emulation.setDeviceMetricsOverride", **size)
        for path in site:
            page = path.relative_to(root).as_posix()
            browser.open(f"{address}/{page}")
            too_wide = json.loads(browser.evaluate(TOO_WIDE))
            wrong += [f"{page} at {width}: {element} is too wide" for element in too_wide]
            fetched = json.loads(browser.evaluate(FETCHED))
            wrong += [f"{page}: {url}" for url in fetched if not url.startswith(f"{address}/")]
    assert not wrong


def test_site_shows_no_markdown(site):
    """A list without an empty line before it, or a table that is none, would be shown as it was written."""
    left = re.compile(r"^ *(?:[*|] |```|#+ )|\]\(|\*\*", re.MULTILINE)
    wrong = [(page.path.name, text) for page in site.values() for text in page.text if left.search(text)]
    assert not wrong


def test_links_in_the_repository_resolve():
    wrong = []
    pages = [*PAGES, *ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("deploy/**/*.md")]
    for page in pages:
        for link in links(page):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            known = target.exists() and (not anchor or anchor in anchors(target))
            wrong += [] if known else [f"{page.relative_to(ROOT)}: {link}"]
    assert not wrong


def known_flags() -> set[str]:
    """Every option that the reference, which is generated, has an entry for."""
    flags = {"--help", "--version"}
    for line in SETTINGS.read_text().split("## For gunicorn's sake")[0].splitlines():
        if line.startswith(("### ", "* Spellings: ")):
            flags.update(FLAG.findall(line))
    flags.update(FLAG.findall(SETTINGS.read_text().split("## For gunicorn's sake")[1]))
    return flags


def test_options_in_the_text_exist():
    known, wrong = known_flags() | FOREIGN_FLAGS | FORMS, []
    assert {"--bind", "--keep-alive", "--certfile"} <= known
    for page in PAGES:
        _, prose = read(page)
        spans = INLINE_CODE.findall(prose.replace("\n", " "))
        texts = [span for span in spans if span.startswith("--")]
        texts += [prose] if page == SETTINGS else []
        flags = {flag for text in texts for flag in FLAG.findall(text)}
        wrong += [f"{page.relative_to(ROOT)}: {flag}" for flag in flags - known]
    assert not wrong


def test_variables_in_the_text_exist():
    known = set(VARIABLE.findall(SETTINGS.read_text()))
    assert {"PORTICO_CMD_ARGS", "PORTICO_THREADS"} <= known
    wrong = {
        (page.name, name)
        for page in PAGES
        for name in VARIABLE.findall(page.read_text())
        if name not in known
    }
    assert not wrong


def prepare(folder: Path, command: Command) -> None:
    """Makes the modules that a command could name, and the files of its options."""
    (folder / "wsgi.py").write_text(STUB)
    for previous, word in itertools.pairwise(["", *command.words]):
        # A file that is to be written is not there yet.
        if word.endswith((".conf.py", ".conf", ".ini", ".toml")) and previous != "-o":
            (folder / word).parent.mkdir(parents=True, exist_ok=True)
            (folder / word).write_text("")
        match = APPLICATION.fullmatch(word)
        if not match or match[1].split(".")[0] in sys.stdlib_module_names:
            continue
        path = folder / f"{match[1].replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        name = match[2] or "application"
        factory = f"def {name}(): return application\n" if word.endswith("()") else f"{name} = application\n"
        path.write_text(STUB + factory)


def understands(command: Command, folder: Path, words_of_help: set[str]) -> str | None:
    """What is wrong with a command; None if portico would do as it says."""
    first = command.words[0] if command.words else ""
    # One of them asks for a password, and the text calls one by its name alone.
    bare = [word for word in command.words if word not in FORMS]
    if first in ("web", "cancel", "profile", "memory"):
        bare = bare[:2]  # What follows is not looked at without a server.
    if first in (*WITH_PROCESS, "hash-password", "route") and len(bare) <= 2:
        return None if first in words_of_help else f"{command}: no such command"
    folder.mkdir()
    prepare(folder, command)
    words = list(command.words)
    if first == "maintenance":
        (folder / "portico.toml").write_text('[[route]]\nif_file = "MAINTENANCE"\nrespond = 503\n')
    if first == "check":
        # The same without trying the addresses, which others may have.
        words[0] = "--check-config"
    elif first not in words_of_help and not {"--help", "--version"} & set(words):
        words.append("--check-config")
    ended = run_to_end(*words, cwd=folder, environment=dict(command.variables))
    return None if ended.returncode == 0 else f"{command}: {ended.stderr}"


def test_commands_are_understood(tmp_path):
    commands = portico_commands()
    assert len(commands) >= 20
    words = set(re.findall(r"^  portico ([a-z-]+)", run_to_end("--help", cwd=tmp_path).stdout, re.MULTILINE))
    assert set(WITH_PROCESS) <= words
    distinct = {(command.words, command.variables): command for command in commands}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = pool.map(
            lambda pair: understands(pair[1], tmp_path / str(pair[0]), words), enumerate(distinct.values())
        )
        assert not [one for one in wrong if one]


# Of "secret".
USERS = "bob:$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n"


def make_named(folder: Path, toml: str) -> None:
    """Makes the modules and files that the routes of a portico.toml name."""
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    table = tomllib.loads(toml)
    table = table.get("tool", {}).get("portico", table)
    for entry in [table, *table.get("route", [])]:
        target = entry.get("app")
        if isinstance(target, str) and ":" in target:
            module, name = target.split(":")
            (folder / f"{module}.py").write_text(f"def {name}(environ, start_response): pass\n")
        for key in ("page", "redirects", "auth"):
            if key in entry:
                (folder / entry[key]).write_text(USERS if key == "auth" else "")


def test_toml_is_understood(tmp_path, folders):
    blocks = [block for page in PAGES for block in read(page)[0] if block.language == "toml"]
    assert blocks
    # One of them says `user`: of that root reads no file in /tmp.
    is_root = os.geteuid() == 0
    program = [*OPENED_UP, *command()] if is_root else None
    folder = folders.make(ROOTS) if is_root else tmp_path
    (folder / "mysite").mkdir()
    (folder / "mysite/wsgi.py").write_text(STUB)
    for block in blocks:
        toml = "\n".join(block.lines)
        make_named(folder, toml)
        (folder / "portico.toml").write_text(toml)
        ended = run_to_end("--check-config", cwd=folder, program=program)
        assert ended.returncode == 0, (block.page, ended.stderr)


def test_examples_in_the_text_are_tested():
    """Each is shown with the configurations that it replaces, as it stands in its folder."""
    shown = {(block.language, "\n".join(block.lines)) for page in PAGES for block in read(page)[0]}
    text = "".join(page.read_text() for page in (ROOT / "docs/guides").glob("*.md"))
    table = load("count", ROOT / "examples/edge/count.py").table(ROOT / "examples/edge")
    assert re.sub(r"\[([^\]]+)\]\(\d\d[^)]*\)", r"\1", table) in text
    # There is neither a cache nor a proxy to be shown.
    folders = [path for path in (ROOT / "examples/edge").iterdir() if path.is_dir()]
    for folder in folders:
        if folder.name.startswith(("07", "08")):
            continue
        for name, language in (("nginx.conf", "nginx"), ("Caddyfile", "caddy")):
            assert (language, (folder / name).read_text().rstrip()) in shown, (folder.name, name)
        toml = (folder / "portico.toml").read_text().rstrip()
        # These two stand there in words, or with certificates of one's own.
        if not folder.name.startswith(("01", "12")):
            assert ("toml", f"# portico.toml\n{toml}") in shown, folder.name


def test_toml_is_what_the_schema_describes():
    jsonschema = pytest.importorskip("jsonschema")
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    schema = json.loads((ROOT / "docs/reference/portico.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    blocks = [block for page in PAGES for block in read(page)[0] if block.language == "toml"]
    for block in blocks:
        read_block = tomllib.loads("\n".join(block.lines))
        table = read_block.get("tool", {}).get("portico", read_block)
        assert list(validator.iter_errors(table)) == [], block.page
    for wrong in ({"thraeds": 1}, {"threads": "1"}, {"threads": 0}, {"log_level": "loud"}, {"preload": "x"}):
        assert not validator.is_valid(wrong), wrong
    shown = tomllib.loads(run_to_end("config", "a:b", "-b", "127.0.0.1:1", cwd=ROOT / "tests").stdout)
    assert list(validator.iter_errors(shown)) == []


def test_first_minute_step_by_step(serve, tmp_path):
    page = ROOT / "docs/guides/first-minute.md"
    (tmp_path / "hello.py").write_text(python_block(page, "def app(environ"))
    server = serve("hello:app", cwd=tmp_path)
    lines = page.read_text().splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("$ curl ")]
    url, answer = lines[at].split()[-1], lines[at + 1]
    assert server.request("GET", urlsplit(url).path).body.decode() == f"{answer}\n"


def test_first_minute_of_the_readme(serve, tmp_path):
    shown = [command.words for command in portico_commands() if command.place.startswith("README")]
    flask, django = tmp_path / "flask", tmp_path / "django"
    flask.mkdir()
    django.mkdir()
    (flask / "hello.py").write_text(
        "from flask import Flask\napp = Flask(__name__)\n@app.get('/')\ndef hello(): return 'hello'\n"
    )
    django_admin = [sys.executable, "-m", "django", "startproject", "mysite", str(django)]
    subprocess.run(django_admin, check=True, env=server_environment())
    for words, folder in [(("hello:app",), flask), (("mysite.wsgi",), django), ((), django)]:
        assert words in shown
        server = serve(*words or (None,), cwd=folder, environment={"PYTHONPATH": None})
        with server.connect() as client:
            client.send(request_bytes(host="localhost"))
            assert client.read_response().status == 200
        server.stop()


def test_portico_serve_of_the_readme(serve, tmp_path):
    block = python_block(README, "import portico").replace("127.0.0.1:8000", "127.0.0.1:0")
    (tmp_path / "served.py").write_text(f"from hello import app\n{block}")
    (tmp_path / "hello.py").write_text(python_block(ROOT / "docs/guides/first-minute.md", "def app(environ"))
    server = serve(None, program=[sys.executable, "served.py"], bind=None, cwd=tmp_path)
    assert server.request("GET", "/here").body == b"Hello from /here\n"
