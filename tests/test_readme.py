"""What README.md and the page on target rtx say exists: every path, command with its flags, and link."""

import re
import shlex

import pytest

from mobilevlm.engines import compile as compile_engines
from mobilevlm.engines import judge
from mobilevlm.engines.targets import TARGETS
from mobilevlm.eval import compare
from mobilevlm.eval import run as evaluation
from mobilevlm.export import build_engines, phone_kit
from mobilevlm.jetson import benchmark as jetson_benchmark
from mobilevlm.jetson import compare as jetson_compare
from mobilevlm.jetson import doctor, limits
from mobilevlm.runtime import benchmark, chat, choose, smoke, verify
from mobilevlm.train import finetune, language_pretrain, merge_lora, prepare_data, vision_pretrain
from mobilevlm.train.demo import make_benchmarks, train_demo
from tests.conftest import ROOT

TEXT = (ROOT / "README.md").read_text()
RTX_PAGE = ROOT / "docs" / "rtx.md"
PAGES = TEXT + RTX_PAGE.read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGES, re.DOTALL)
COMMANDS = [line for kind, body in BLOCKS if kind == "bash" for line in body.splitlines() if line.strip()]
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGES, flags=re.DOTALL))
PATHS = sorted(
    {text for text in INLINE if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(/|\.(py|sh|md|jpg|json|toml|txt|model))", text)}
)
PARSERS = {
    "engines/compile.py": compile_engines.parser,
    "engines/judge.py": judge.parser,
    "eval/compare.py": compare.parser,
    "eval/run.py": evaluation.parser,
    "export/build_engines.py": build_engines.parser,
    "export/phone_kit.py": phone_kit.parser,
    "jetson/benchmark.py": jetson_benchmark.parser,
    "jetson/compare.py": jetson_compare.parser,
    "jetson/doctor.py": doctor.parser,
    "jetson/limits.py": limits.parser,
    "runtime/benchmark.py": benchmark.parser,
    "runtime/chat.py": chat.parser,
    "runtime/choose.py": choose.parser,
    "runtime/smoke.py": smoke.parser,
    "runtime/verify.py": verify.parser,
    "train/finetune.py": finetune.parser,
    "train/language_pretrain.py": language_pretrain.parser,
    "train/merge_lora.py": merge_lora.parser,
    "train/prepare_data.py": prepare_data.parser,
    "train/vision_pretrain.py": vision_pretrain.parser,
    "train/demo/make_benchmarks.py": make_benchmarks.parser,
    "train/demo/train_demo.py": train_demo.parser,
}


def words_of(command):
    return shlex.split(command, comments=True)


@pytest.mark.parametrize("command", COMMANDS + [text for text in INLINE if text.startswith(("python ", "bash "))])
def test_commands_parse(command):
    """The real parsers take every command as it stands."""
    words = words_of(command)
    if words[:2] == ["bash", "run.sh"]:
        assert re.search(
            rf"^    ([\w.]+ \| )*{re.escape(words[2])}( \| [\w.]+)*\)", (ROOT / "run.sh").read_text(), re.MULTILINE
        )
    elif words[0] == "bash" and words[1].startswith("artifacts/"):  # in a folder that phone_kit.py writes
        assert (ROOT / "export" / "phone" / words[1].split("/")[-1]).is_file()
    elif words[:2] == ["bash", "jetson/setup.sh"]:
        assert set(words[2:]) <= set(re.findall(r"^ +(--[\w-]+)\)", (ROOT / words[1]).read_text(), re.MULTILINE))
    elif words[0] == "python" and words[1] in PARSERS:
        PARSERS[words[1]]().parse_args(words[2:])
    else:
        assert words[0] in ("git", "cd", "pip"), f"README shows {command!r}, which no test understands"


def test_there_are_commands():
    assert {"bash run.sh demo", "bash run.sh test"} <= {" ".join(words_of(command)) for command in COMMANDS}


@pytest.mark.parametrize("path", PATHS)
def test_paths_exist(path):
    inside_something_made = ("report.md", "bundle.json", "config.json", "adapter_config.json", "train_summary.json")
    assert (ROOT / path).exists() or path in inside_something_made or path.startswith("artifacts/"), path


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", RTX_PAGE):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text()):
            assert (page.parent / target).exists(), target


def test_every_target_and_precision_is_described():
    for target in TARGETS.values():
        assert f"`{target.name}`" in TEXT
        for precision in {*target.default_precision.values()}.union(*target.precisions.values()):
            assert f"`{precision}`" in TEXT


def test_python_examples_import():
    """The names the Python blocks import exist."""
    import importlib

    blocks = [body for kind, body in BLOCKS if kind == "python"]
    assert blocks
    for body in blocks:
        compile(body, "README.md", "exec")
        for module, names in re.findall(r"^from (\S+) import (.+)$", body, re.MULTILINE):
            for name in names.split(", "):
                assert hasattr(importlib.import_module(module), name)
