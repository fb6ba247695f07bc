"""Prints the lines of each example's configurations as a table in Markdown: no blank ones, no comments."""

from __future__ import annotations

from pathlib import Path

FILES = ("portico.toml", "nginx.conf", "Caddyfile")
TITLES = {
    "01-django": "Django with collectstatic",
    "02-single-page": "An API and a single-page application",
    "03-two-apps": "Two applications under one host",
    "04-old-urls": "Old URLs",
    "05-guarded-media": "Files that the application guards",
    "06-login-limit": "A limit for logins",
    "07-cache": "A cache for anonymous pages (a later version)",
    "08-websockets": "WebSockets elsewhere (a later version)",
    "09-staging-password": "A password for staging's admin",
    "10-maintenance": "A page for maintenance",
    "11-security-headers": "HSTS and security headers",
    "12-several-hosts": "Several hosts (`acme` in a later version)",
}


def lines(path: Path) -> int:
    """How many lines of a configuration say something."""
    texts = (line.strip() for line in path.read_text().splitlines())
    return sum(1 for text in texts if text and not text.startswith("#"))


def table(folder: Path) -> str:
    """The table for all examples in `folder`."""
    rows = ["| Example | Portico | nginx | Caddy |", "|---|---|---|---|"]
    for example in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        counts = " | ".join(str(lines(folder / example / name)) for name in FILES)
        rows.append(f"| [{TITLES[example]}]({example}) | {counts} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(Path(__file__).parent))
