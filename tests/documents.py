"""The documents of this repository, and what stands in them: blocks, the comment before each, inline code, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
COMMANDS = ("bash", "python")  # kinds of blocks that a reader runs


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its file.
        kind: the word behind the fence: `bash`, `python`, `text`.
        body: its lines.
        note: the last comment between the block before and this one; empty if there is none.
    """

    page: Path
    kind: str
    body: str
    note: str

    @property
    def name(self) -> str:
        """For the names of tests."""
        return f"{self.page.relative_to(ROOT)}:{self.body.splitlines()[0]}"

    @property
    def lines(self) -> list[str]:
        """Commands, without blank lines."""
        return [line for line in self.body.splitlines() if line.strip()]


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found, end, text = [], 0, page.read_text(encoding="utf-8")
    for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        notes = re.findall(r"<!-- (.*?) -->", text[end : fence.start()], re.DOTALL)
        found.append(Block(page, fence[1], fence[2], notes[-1] if notes else ""))
        end = fence.end()
    return found


def prose_of(page: Path) -> str:
    """A page without its blocks and comments."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
INLINE = [(page, text) for page in PAGES for text in re.findall(r"`([^`\n]+)`", prose_of(page))]
