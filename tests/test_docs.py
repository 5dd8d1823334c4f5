"""The documentation builds without a warning; what its blocks say is run by a test, or needs what none has."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from mobilevlm import __version__
from mobilevlm.commands import CONSOLE_SCRIPTS
from mobilevlm.engines.bundle import FORMAT_VERSION, Manifest
from tests.conftest import ROOT
from tests.documents import BLOCKS, COMMANDS, PAGES, Block

FOLDERS = ("mobilevlm", "engines", "export", "runtime", "train", "eval", "jetson")
# What no test machine has, as `<!-- needs … -->` may begin.
NEEDS = (
    "an Android phone",
    "a Jetson Orin",
    "a GeForce RTX",
    "several GPUs",
    "a network",
    "a published checkpoint",
    "the published training data",
    "hours of CPU time",
    "half an hour",
)
HERE = "run by tests/test_docs.py"
RUN_HERE = [block for block in BLOCKS if block.note == HERE]


def test_mkdocs_builds_strictly(tmp_path):
    """Every page is in the navigation, every link and anchor exists, every docstring of the API page is read."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},  # Material's notice about its own future
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    api = (tmp_path / "python_api" / "index.html").read_text(encoding="utf-8")
    for name in ("Session", "Sampling", "Reply", "Bundle", "Target", "MobileVLM", "max_new_tokens", "temperature"):
        assert name in api
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").rglob("*.md")))  # and the page for what is not found
    for page in pages:  # no font, script or style from elsewhere
        assert not re.search(r"<(?:link|script|img)[^>]+(?:href|src)=\"?https?:", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind in COMMANDS], ids=lambda block: block.name)
def test_a_block_is_run_by_a_test_or_says_what_it_needs(block):
    tests = re.findall(r"run by (tests/[\w/]+\.py)", block.note)
    assert tests or block.note.startswith(tuple(f"needs {what}" for what in NEEDS)), block.note
    for test in tests:
        text = (ROOT / test).read_text(encoding="utf-8")
        for script in [] if test == HERE.split()[-1] else scripts_of(block):
            assert mentions(text, script), f"{test} does not run {script}"


def scripts_of(block: Block) -> list[str]:
    """Our scripts that a block runs."""
    return [found for line in block.lines for found in re.findall(r"^python (\w+(?:/\w+)+\.py)", line)]


def mentions(test: str, script: str) -> bool:
    """Whether a test's text names a script: by path, by module, or by what tests/conftest.py calls it."""
    known = {"export/build_engines.py": r"\bbuild(_here|_demo)?\(|BUILD", "runtime/chat.py": r"CHAT|Session\("}
    known["runtime/benchmark.py"] = "BENCHMARK"
    folder, name = script.removesuffix(".py").rsplit("/", 1)
    module = rf"{folder.replace('/', '.')}\.{name}\b|from mobilevlm\.{folder.replace('/', '.')} import [^\n]*\b{name}\b"
    joined = rf'"{folder}" / "{name}\.py"'
    return bool(re.search(rf"{re.escape(script)}|{joined}|{module}|{known.get(script, script)}", test))


def test_blocks_run_here_are_those_that_a_stranger_tries_first():
    assert {block.page.name for block in RUN_HERE} == {"quickstart.md", "python_api.md"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A clone to run commands in: this one, with an `artifacts/` of its own."""
    place = tmp_path_factory.mktemp("clone")
    for name in (*FOLDERS, "assets", "pyproject.toml"):
        (place / name).symlink_to(ROOT / name)
    return place


@pytest.mark.parametrize("block", sorted(RUN_HERE, key=lambda block: block.kind), ids=lambda block: block.name)
def test_blocks_run(block, folder):
    """Word for word, in the order of the pages, `bash` before `python`; answers are those that the pages show."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if block.kind == "python":
        programs = [[sys.executable, "-c", block.body]]
    else:
        programs = [[sys.executable, *shlex.split(line)[1:]] for line in block.lines]
    said = ""
    for words in programs:
        done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        said = done.stdout
    if "What color is the circle?" in block.body:
        assert said.startswith("The circle is red.")


# --- messages of docs/troubleshooting.md


def messages() -> Iterator[str]:
    """Every text of the source, with `…` for what is put in."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
    for path in (ROOT / "run.sh", ROOT / "jetson" / "setup.sh"):
        yield from re.findall(r'fail "(.*?)"(?: |$)', path.read_text(encoding="utf-8"), re.MULTILINE)


def quoted() -> list[str]:
    """The messages of the page: the first column of its tables."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)


@pytest.fixture(scope="module")
def source() -> list[str]:
    """All messages, once."""
    return list(messages())


@pytest.mark.parametrize("message", quoted())
def test_a_message_still_stands_in_the_source(message, source):
    """Its words in their order, in one text."""
    pattern = re.compile(".*?".join(re.escape(part) for part in message.split("…")), re.DOTALL)
    assert any(pattern.search(text) for text in source)


def test_a_message_that_nobody_says_would_be_found(source):
    assert len(quoted()) > 60 and not any("there is no engine bundle on the moon" in text for text in source)


# --- the other pages


def test_every_field_of_a_manifest_is_explained():
    text = (ROOT / "docs" / "bundle_format.md").read_text(encoding="utf-8")
    table = text[text.index("## The manifest") : text.index("## What a version change means")]
    rows = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {field.name for field in fields(Manifest)} <= explained
    assert f"| `format_version` | {FORMAT_VERSION} |" in table


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "extending").glob("[!i]*.md")), ids=lambda page: page.stem)
def test_an_extending_page_names_its_tests(page):
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\*\*Its tests?:\*\*.*?`tests/[\w/]+\.py`", text, re.DOTALL)
    assert page.name in (page.parent / "index.md").read_text(encoding="utf-8")


def test_nothing_is_said_of_a_console_script_that_is_not_there():
    known = {*CONSOLE_SCRIPTS.values(), "mobilevlm-…"}
    for page in PAGES:
        assert set(re.findall(r"`(mobilevlm-[\w-]+)", page.read_text(encoding="utf-8"))) <= known, page


def test_the_citation_names_this_version_and_the_papers():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited) and cited["version"] == __version__
    assert [paper["url"][-10:] for paper in cited["references"]] == ["2312.16886", "2402.03766"]
    assert all(paper["authors"] for paper in cited["references"])


def test_hooks_before_a_commit_run_what_is_installed():
    """Without a network: each is a program of the environment, and takes its options."""
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            program, *options = hook["entry"].split()
            assert program.startswith(".venv/bin/")
            scripts = [ROOT / "run.sh", ROOT / "jetson" / "setup.sh"]
            files = scripts if hook["id"] == "shellcheck" else [Path(__file__)]
            tool = Path(sys.executable).parent / Path(program).name
            done = subprocess.run([tool, *options, *files], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
