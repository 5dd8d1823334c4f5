"""Whether a manifest's fields agree with each other and with the model: types and ranges are `manifest.py`'s."""

from __future__ import annotations

import shlex
from pathlib import Path

from mobilevlm.checkpoint.config import ModelConfig

from .integrity import BLOCK_BYTES
from .manifest import FileEntry, Manifest
from .stages import VISION, engine_file
from .targets import TARGETS

BUILDERS = ("export/build_engines.py", "build_engines.py", "mobilevlm-build-engines")
COMPILED_FIELDS = ("soc", "htp", "qairt", "onnxruntime-qnn")
TENSORRT_FIELDS = ("version", "capability")
# Files that are read where they are there: one that the manifest does not list was put beside the bundle's.
COMPANIONS = (
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def is_build_command(text: str) -> bool:
    """Tells whether a text is one command that builds a bundle, and does nothing else in a shell."""
    try:
        words = shlex.split(text)
    except ValueError:
        return False
    script = words[1:2] if words[:1] == ["python"] else words[:1]
    return shlex.join(words) == text and bool(script) and script[0] in BUILDERS


def check_manifest(manifest: Manifest, config: ModelConfig) -> None:
    """Compares a manifest's fields with each other and with its model.

    Args:
        manifest: whose fields have the right types.
        config: of its model.

    Raises:
        ValueError: they contradict each other; says how.
    """
    stages, layers = set(manifest.precision), config.num_hidden_layers
    if manifest.forms and set(manifest.forms) != stages:
        raise ValueError(f"it has forms of {_names(manifest.forms)}, and precisions of {_names(stages)}")
    if (VISION in stages) != (config.vision is not None):
        raise ValueError("its model and its stages do not agree on whether there is vision")
    tokens = manifest.num_image_tokens
    if not (0 < tokens < manifest.max_context if VISION in stages else tokens == 0):
        raise ValueError(f"num_image_tokens is {tokens}, max_context {manifest.max_context}")
    if manifest.max_context > config.max_position_embeddings:
        known = config.max_position_embeddings
        raise ValueError(f"max_context is {manifest.max_context}, the model knows positions up to {known}")
    ends = [end for part in manifest.parts.values() for end in part]
    target = TARGETS.get(manifest.target)  # None for one of a later version, which opening refuses
    if not ends and target is not None and not target.is_a_cpu:
        raise ValueError(f"parts is missing, which bundles for {manifest.target} have")
    if ends and (ends[0] != 0 or ends[-1] != layers or ends[1:-1:2] != ends[2:-1:2] or ends != sorted(ends)):
        raise ValueError(f"parts are {manifest.parts}, the model has {layers} layers")
    for name, record in manifest.files.items():
        if (blocks := record.get("blocks")) is not None and len(blocks) != -(-record["size"] // BLOCK_BYTES):
            raise ValueError(f"{name} has {record['size']} bytes and hashes of {len(blocks)} blocks")
    if strange := set(manifest.spare) - set(manifest.files):
        raise ValueError(f"spare has {_names(strange)}, which files has not")
    _check_compiled(manifest)


def _check_compiled(manifest: Manifest) -> None:
    if manifest.compiled and (missing := set(COMPILED_FIELDS) - set(manifest.compiled)):
        raise ValueError(f"compiled lacks {_names(missing)}")
    engines = manifest.tensorrt.get("engines", {})
    if engines and (missing := set(TENSORRT_FIELDS) - set(manifest.tensorrt.get("machine", {}))):
        raise ValueError(f"tensorrt.machine lacks {_names(missing)}")
    if missing := {engine_file(part) for part in engines} - set(manifest.files):
        raise ValueError(f"files lacks {_names(missing)}, which tensorrt.engines has")


def unlisted(directory: Path, files: dict[str, FileEntry]) -> list[str]:
    """Returns the files that would be read from a directory although its manifest does not list them.

    Args:
        directory: of the bundle.
        files: of the manifest.
    """
    return [name for name in COMPANIONS if name not in files and (directory / name).exists()]


def _names(names: object) -> str:
    return ", ".join(sorted(names)) if isinstance(names, (set, dict)) else str(names)
