"""What MkDocs does beside its own: anchors as code hosts make them, and links to files outside docs/.

The pages are read in the repository as well as on the site, so links have to hold in both.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)\)")


def slug(text: str, separator: str) -> str:
    """A heading's anchor: words in small letters, `separator` for each space, hyphens kept."""
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", separator)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Gives the table of contents its anchors."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository outside docs/ lead to copies of them on the site.

    Folders have no copy: of a link to one its text remains. MkDocs warns of what does not exist.
    """
    folder = Path(page.file.abs_src_path).parent

    def replaced(match: re.Match[str]) -> str:
        text, link = match.groups()
        path = (folder / link).resolve()
        if path.is_relative_to(config.docs_dir) or not path.is_relative_to(ROOT):
            return match[0]
        if path.is_dir():
            return text
        if not path.is_file():
            return match[0]
        uri = f"files/{path.relative_to(ROOT).as_posix()}.txt"
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, content=path.read_bytes()))
        return f"[{text}]({os.path.relpath(uri, os.path.dirname(page.file.src_uri))})"

    return OUTSIDE_LINK.sub(replaced, markdown)
