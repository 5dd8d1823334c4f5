"""Names of the layout's files: one graph a stage and variant, as transformers.js and Optimum look for them.

A variant is one of their data types; each is a precision of this project.
https://huggingface.co/docs/transformers.js/guides/dtypes
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobilevlm.errors import UserError

ONNX_FOLDER = "onnx"
VISION_ENCODER, EMBED_TOKENS, DECODER_MODEL = "vision_encoder", "embed_tokens", "decoder_model_merged"
IMAGE_FEATURES, INPUT_IDS = "image_features", "input_ids"
IMAGE_TOKEN = "<image>"


@dataclass(frozen=True)
class Variant:
    """One form of all graphs.

    Attributes:
        precision: of this project, as `--precision` takes it.
        dtype: what transformers.js calls it.
        suffix: of the graphs' file names.
    """

    precision: str
    dtype: str
    suffix: str

    def part(self, stage: str) -> str:
        """Returns the name of a stage's graph, without `.onnx`."""
        return stage + self.suffix


# The most exact first.
VARIANTS = {
    one.precision: one
    for one in (
        Variant("fp32", "fp32", ""),
        Variant("fp16", "fp16", "_fp16"),
        Variant("int8", "q8", "_quantized"),
        Variant("int4", "q4", "_q4"),
    )
}


def onnx_path(directory: Path, part: str) -> Path:
    """Returns a graph's file.

    Args:
        directory: that holds the graphs.
        part: the graph's name.
    """
    return directory / f"{part}.onnx"


def data_path(directory: Path, part: str) -> Path:
    """Returns the file of a graph's weights: transformers.js derives this name from the graph's.

    Args:
        directory: that holds the graphs.
        part: the graph's name.
    """
    return directory / f"{part}.onnx_data"


def asked_variants(precision: str | None) -> list[Variant]:
    """Returns the variants that `--precision` asks for, the most exact first; all of them where it is not given.

    Args:
        precision: the option's value.

    Raises:
        UserError: one is not known.
    """
    names = list(VARIANTS) if precision is None else [name.strip() for name in precision.split(",")]
    if unknown := [name for name in names if name not in VARIANTS]:
        raise UserError(
            f"--layout hf has no precision {unknown[0]!r}: it takes {', '.join(VARIANTS)}, one or several with commas "
            "between, each for all stages"
        )
    return [one for name, one in VARIANTS.items() if name in names]
