"""Writes the whole layout: every variant verified against PyTorch, in a directory that appears when all is done."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.engines import stages
from mobilevlm.engines.atomic_dir import Kind, staged
from mobilevlm.engines.targets import TARGETS
from mobilevlm.errors import UserError
from mobilevlm.text.byte_level_files import is_byte_level

from ..backends.backend import Backend
from ..backends.stage_plan import StagePlan
from ..bundle_writer import versions
from ..plan import BuildPlan, BuildRequest, make_plan
from ..verification.verify import Difference, verify
from .card import render_card
from .configuration import write_configuration
from .graphs import stored_table, write_graphs
from .names import EMBED_TOKENS, ONNX_FOLDER, VARIANTS, Variant, asked_variants, onnx_path
from .run import HfStages, check_table
from .tokenizer import write_tokenizer

MANIFEST = "export.json"
FORMAT = "mobilevlm-hf-layout"


def is_layout(directory: Path) -> bool:
    """Tells whether a directory was written here."""
    return _manifest(directory) is not None


def foreign_files(directory: Path) -> list[str]:
    """Names in a layout's directory that are not its own."""
    known = {MANIFEST, *((_manifest(directory) or {}).get("files") or {})}
    paths = (path for path in directory.rglob("*") if not path.is_dir())
    return sorted(name for path in paths if (name := path.relative_to(directory).as_posix()) not in known)


def _manifest(directory: Path) -> dict[str, dict[str, int]] | None:
    try:
        found = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


LAYOUT = Kind("directory of --layout hf", "layout", is_layout, foreign_files)


def build_layout(
    arguments: argparse.Namespace,
    checkpoint: Checkpoint,
    source: Sequence[str],
    backend: Backend,
    calibration: Path | None,
) -> Path:
    """Plans and writes the layout; returns its directory.

    Args:
        arguments: the command line.
        checkpoint: the model.
        source: the command line's words that name it.
        backend: of the target.
        calibration: the file of conversations; None for weights that are random.

    Raises:
        UserError: the model takes no images; what else, see `make_plan` and `verify`.
    """
    if checkpoint.config.vision is None:
        raise UserError(f"{checkpoint.name} takes no images, and --layout hf is for models that do")
    if is_byte_level(checkpoint.tokenizer_dir):
        raise UserError(
            f"{checkpoint.name} has a byte-level tokenizer, and --layout hf writes LLaMA's kind: transformers.js takes "
            "the ONNX files that its authors publish; for a device leave --layout out"
        )
    target, out = TARGETS[arguments.target], arguments.out or f"artifacts/{checkpoint.name}-hf"
    plans = {
        one.precision: make_plan(
            BuildRequest(
                checkpoint=checkpoint,
                source=source,
                target=target,
                backend=backend,
                precisions=dict.fromkeys((stages.VISION, stages.DECODER), one.precision),
                max_context=arguments.max_context,
                out=out,
                overwrite=arguments.overwrite,
                calibration=calibration,
                kind=LAYOUT,
            )
        )
        for one in asked_variants(arguments.precision)
    }
    words = ["python", "export/build_engines.py", *source, "--target", target.name, "--layout", "hf"]
    words += ["--precision", ",".join(plans), "--out", str(out), "--overwrite"]
    return write_layout(plans, shlex.join(words))


def write_layout(plans: Mapping[str, BuildPlan], command: str) -> Path:
    """Writes and verifies all variants, and the files beside them; returns the directory.

    Args:
        plans: by precision, the most exact first.
        command: the command line that writes it again.

    Raises:
        VerificationError: a variant differs from PyTorch by more than its precision allows; nothing is left behind.
    """
    plan = next(iter(plans.values()))
    checkpoint = plan.stages.checkpoint
    found: dict[str, list[Difference]] = {}
    with staged(plan.out, plan.overwrite, LAYOUT) as directory:
        onnx = directory / ONNX_FOLDER
        onnx.mkdir()
        image_token = write_tokenizer(checkpoint, directory)
        variants = [VARIANTS[name] for name in plans]
        write_configuration(directory, checkpoint.config, image_token, variants)
        for variant in variants:
            found[variant.dtype] = _write_variant(plans[variant.precision].stages, variant, onnx, image_token)
            for item in found[variant.dtype]:
                if not item.is_of_form:
                    print(f"{variant.dtype}: {item}", file=sys.stderr)
        card = render_card(checkpoint, variants, found, command)
        (directory / "README.md").write_text(card, encoding="utf-8")
        _write_manifest(directory, found, command)
    return plan.out


def _write_variant(plan: StagePlan, variant: Variant, directory: Path, image_token: int) -> list[Difference]:
    with tqdm(total=sum(plan.weight_bytes.values()), unit="B", unit_scale=True, disable=None) as progress:
        written = write_graphs(plan, variant, directory, image_token, progress)
    config = plan.checkpoint.config
    table = stored_table(onnx_path(directory, variant.part(EMBED_TOKENS)), config.vocab_size)
    check_table(directory, variant, table)
    runs = HfStages(directory, config, variant, plan.facts[stages.DECODER].packs_weights)
    result = verify(plan.checkpoint, written, directory, runs, table, plan.modules, plan.max_context)
    return result.differences


def _write_manifest(directory: Path, found: Mapping[str, Sequence[Difference]], command: str) -> None:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    manifest = {
        "format": FORMAT,
        "command": command,
        "versions": versions(),
        "verification": {dtype: [item.recorded() for item in items] for dtype, items in found.items()},
        "files": {path.relative_to(directory).as_posix(): path.stat().st_size for path in paths},
    }
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
