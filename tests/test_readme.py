"""What README.md and the pages of docs/ say exists: every path, command with its flags, and link."""

import importlib
import re
import shlex

import pytest

from mobilevlm.commands import CONSOLE_SCRIPTS
from mobilevlm.engines.targets import TARGETS
from tests.conftest import ROOT
from tests.documents import BLOCKS, INLINE, PAGES

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
LONGEST = 150  # lines of README.md
FIRST_SCREEN = 60
COMMANDS = sorted({line for block in BLOCKS if block.kind == "bash" for line in block.lines})
INLINE_COMMANDS = sorted({text for _, text in INLINE if text.startswith(("python ", "bash ", "mobilevlm-"))})
PATHS = sorted(
    {
        text
        for _, text in INLINE
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(/|\.(py|sh|md|jpg|png|json|toml|txt|model|yml|cff))", text)
    }
)
# Scripts that have no console script of their own.
DEMO_SCRIPTS = (
    *("train/demo/make_benchmarks.py", "train/demo/train_demo.py", "train/demo/judge.py"),
    *("train/demo/footage.py", "train/demo/make_questions.py"),
)
# Files that are in bundles, checkpoints, runs and kits, not in this repository.
MADE = {
    *("report.md", "bundle.json", "config.json", "adapter_config.json", "train_summary.json", "candidates.json"),
    *("choice.md", "prefill.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "README.txt"),
    *(
        "deployment.json",
        "deployment.md",
        "report.json",
        "inputs.json",
        "outputs.json",
        "layers.json",
        "layers-inputs.json",
        "polygraphy.sh",
    ),
    *(".seen.json", ".checked.json", "data/benchmark_data"),
    *("export.json", "generation_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json"),
}
# What a line may begin with besides a program of ours.
OTHERS = (
    "git",
    "cd",
    "pip",
    "source",
    "docker",
    "mkdocs",
    "polygraphy",
    "grep",
    "sudo",
    "pre-commit",
    "ln",
    "ros2",
    "cp",
    "npm",
    "minisign",
)


def parser_of(script):
    """The argparse parser of a script, by its path in a clone."""
    module = "mobilevlm." + script.removesuffix(".py").replace("/", ".")
    return importlib.import_module(module).parser()


def words_of(command):
    """A line's words, without what is put in front of a program (`/usr/bin/time -v`, `accelerate launch`)."""
    words = shlex.split(command, comments=True)
    if words[:2] in (["/usr/bin/time", "-v"], ["accelerate", "launch"]):
        words = [word for word in words[2:] if word != "--multi_gpu"]
        words = words if words[0] == "python" else ["python", *words]
    return words[1:] if words[:1] == ["sudo"] else words


@pytest.mark.parametrize("command", COMMANDS + INLINE_COMMANDS)
def test_commands_parse(command):
    """The real parsers take every command as it stands."""
    words = words_of(command)
    if "…" in words:  # an excerpt: the program and the options around it
        words = [word for word in words if word != "…"][:2]
        assert (ROOT / words[1]).is_file()
    elif words[:2] == ["bash", "run.sh"]:
        verbs = re.findall(r"^    ((?:[\w.]+ \| )*[\w.]+)\)", (ROOT / "run.sh").read_text(), re.MULTILINE)
        assert words[2] in {verb for line in verbs for verb in line.split(" | ")}
    elif words[0] == "bash" and words[1].startswith(("artifacts/", "FOLDER/")):  # in a folder that a command writes
        name = words[1].split("/")[-1]
        assert (ROOT / "export" / "phone" / name).is_file() or (ROOT / "runtime" / "tensorrt" / name).is_file()
    elif words == ["bash", "locks/make.sh"]:
        assert (ROOT / words[1]).is_file()
    elif words[:2] == ["bash", "jetson/setup.sh"]:
        assert set(words[2:]) <= set(re.findall(r"^ +(--[\w-]+)\)", (ROOT / words[1]).read_text(), re.MULTILINE))
    elif words[0] == "python" and (words[1] in CONSOLE_SCRIPTS or words[1] in DEMO_SCRIPTS):
        if len(words) > 2 or command in COMMANDS:  # inline, a script may stand for itself
            parser_of(words[1]).parse_args(words[2:])
    elif words[:2] in (["python", "-m"], [".venv/bin/python", "-m"]):
        assert words[2] in ("venv", "pytest") or importlib.util.find_spec(words[2])
    elif words[0] in CONSOLE_SCRIPTS.values() and len(words) > 1:
        script = next(path for path, name in CONSOLE_SCRIPTS.items() if name == words[0])
        parser_of(script).parse_args(words[1:])
    elif words[0] == "python" and words[1].startswith("tests/"):
        assert (ROOT / words[1]).is_file()
    else:
        assert words[0] in OTHERS or words[0] in CONSOLE_SCRIPTS.values() or words[0] == "mobilevlm-…", command


def test_there_are_commands():
    assert {"bash run.sh demo", "bash run.sh test"} <= set(COMMANDS)


@pytest.mark.parametrize("path", PATHS)
def test_paths_exist(path):
    here = ROOT / path.replace("NAME", "ort")  # a folder of any backend's
    assert here.exists() or path in MADE or path.startswith(("artifacts/", "data/")), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """To files that exist, and to headings that do."""
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([\w-]+))?\)", page.read_text(encoding="utf-8")):
        there = page.parent / target if target else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors_of(there), f"{target}#{anchor}"


def anchors_of(page):
    """The names that headings have as links, where GitHub and MkDocs give them the same."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings]
    return {re.sub(r"\s", "-", text) for text in plain} & {re.sub(r"[-\s]+", "-", text) for text in plain}


def test_every_target_and_precision_is_described():
    """In README.md, and in the table of docs/precisions.md."""
    precisions = (ROOT / "docs" / "precisions.md").read_text(encoding="utf-8")
    for target in TARGETS.values():
        assert f"`{target.name}`" in TEXT and f"`{target.name}`" in precisions
        for precision in set().union(*target.preferred.values(), *target.precisions.values()):
            assert f"`{precision}`" in TEXT or re.search(rf"`[^`\n]*={precision}\b", TEXT), precision
            assert f"| `{precision}`" in precisions


def test_python_examples_import():
    """The names the Python blocks import exist."""
    blocks = [block for block in BLOCKS if block.kind == "python"]
    assert blocks
    for block in blocks:
        compile(block.body, block.name, "exec")
        for module, names in re.findall(r"^from (\S+) import (.+)$", block.body, re.MULTILINE):
            for name in names.split(", "):
                assert hasattr(importlib.import_module(module), name)


def test_the_readme_is_short():
    assert len(TEXT.splitlines()) <= LONGEST


@pytest.mark.parametrize(
    ("device", "board", "command"),
    [
        ("laptop", "laptop or PC", "python runtime/chat.py --engine artifacts/MobileVLM_V2-1.7B-host"),
        ("Orin Nano", "Jetson Orin Nano 8 GB", "python engines/compile.py artifacts/MobileVLM_V2-1.7B-orin-nano"),
        ("phone", "phone or Arm board", "bash artifacts/phone/run.sh BINARIES"),
    ],
)
def test_the_first_screen_has_device_memory_disk_and_command(device, board, command):
    screen = TEXT.splitlines()[:FIRST_SCREEN]
    row = next(line for line in screen if line.startswith("| [") and board in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 7 and all(cells) and re.search(r"\d GB|\d GiB", cells[3]), device
    assert any(line.startswith(command) for line in screen), device


def test_every_console_script_is_listed():
    """In the quick start, beside the script of a clone that it is."""
    rows = re.findall(
        r"^\| `(\w+/\w+\.py)` \| `([\w-]+)` \|", (ROOT / "docs" / "quickstart.md").read_text(), re.MULTILINE
    )
    assert dict(rows) == CONSOLE_SCRIPTS
