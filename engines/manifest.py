"""`bundle.json`: what a bundle notes about itself, its types and its seal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from mobilevlm.errors import UNPRINTABLE

from .stage_form import StageForm
from .stages import DECODER, PREFILL, VISION
from .typed_json import Between, Length, Matches, OneOf

FORMAT_VERSION = 1

# Types of the fields, which `typed_json.typed` holds a file against. Texts are shown at terminals, and names are parts
# of paths: no control character, separator or leading dot gets in.
Text = Annotated[str, Matches(f"[^{UNPRINTABLE}]{{0,8192}}", "printable text")]
LongText = Annotated[str, Matches(f"(\n|[^{UNPRINTABLE}]){{0,65536}}", "printable text")]
Name = Annotated[str, Matches(r"[A-Za-z0-9_][\w.+-]{0,99}", "a name of letters, digits and ._+-")]
FileName = Annotated[str, Matches(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}", "a file's name in the bundle")]
Sha256 = Annotated[str, Matches(r"[0-9a-f]{64}", "a sha256")]
Stage = Annotated[str, OneOf((VISION, PREFILL, DECODER))]
Size = Annotated[int, Between(0, 2**50)]
Rows = Annotated[int, Between(1, 2**20)]
Count = Annotated[int, Between(0, 2**20)]


class WholeFile(TypedDict):
    """Size in bytes and sha256 of a file."""

    size: Size
    sha256: Sha256


class FileEntry(WholeFile, total=False):
    """Record of a file.

    blocks: sha256 of each 16 MiB; only of files that are longer, and not in bundles of older versions
    """

    blocks: list[Sha256]


class Comparison(TypedDict, total=False):
    """A tensor's difference from its reference when the bundle was built (`export/verification/differences.py`)."""

    stage: Text
    tensor: Text
    snr_db: float
    floor_db: float
    max_abs_diff: float
    mean_abs_diff: float
    max_abs_reference: float
    tolerance: float


class Ingredients(TypedDict):
    """Inputs of an engine's build: sha256 of graph and weights, by file name, and settings of the builder."""

    files: dict[FileName, Sha256]
    settings: dict[Text, bool | int]


class EngineEntry(TypedDict):
    """An engine's ingredients, and the seconds that the builder took."""

    made_from: Ingredients
    seconds: float


class TensorrtEntry(TypedDict, total=False):
    """Engines that were compiled where the bundle runs.

    machine: version of TensorRT, compute capability of the GPU, release of a Jetson's system: what engines are bound
        to; for TensorRT-RTX the capabilities that were named, with commas, nothing for every GPU from SM80 on
    engines: one for each graph, by the graph's name
    """

    machine: dict[Text, Text]
    engines: dict[Name, EngineEntry]


class ChoicesEntry(TypedDict, total=False):
    """How closed questions are answered, see `engines/choice_calibration.py`; without fields where nobody calibrated.

    temperature: divides a choice's score before the softmax
    abstain: probability below which the likeliest choice is no answer
    fitted_on: number of questions that the temperature was fitted on
    """

    temperature: Annotated[float, Between(1e-6, 1e6)]
    abstain: Annotated[float, Between(0, 1)]
    fitted_on: Annotated[int, Between(0, 2**50)]


@dataclass(frozen=True)
class Manifest:
    """Content of `bundle.json`.

    Attributes:
        name: the model, for people.
        model: `ModelConfig.to_dict()`.
        target: row of `targets.TARGETS`.
        lowering: form of the decoder's cache interface.
        precision: stage to precision.
        max_context: tokens that the kv cache holds.
        num_image_tokens: tokens an image takes, 0 without vision.
        command: the command line that builds this bundle again; shown through `commands.localized`.
        versions: of the packages that built it.
        verification: stage to tensor to comparison with PyTorch.
        files: every file but this one, by name.
        parts: graphs that the decoder is cut into, and the first layer of each and the one behind its last; only of
            lowerings that cut it.
        compiled: system, architecture and SDK that the graphs are compiled for; empty where they are operators.
        tensorrt: engines compiled on this machine; empty before that.
        spare: files that the device it is compiled for does without, and that may be missing there: graphs and weights
            of what was compiled.
        machine: what decides how the build's own stages were computed, see `machine.fingerprint`; empty in bundles of
            older versions.
        forms: stage to how it is stored and run; in bundles of older versions, what their precisions meant then.
        choices: how closed questions are answered; empty before `eval/calibrate_choices.py`, and in bundles of older
            versions.
        format_version: of the bundle's layout; others are refused.
        seal: sha256 of all of the above, so that an edited manifest is noticed like any altered file.
    """

    name: Text
    model: dict[str, Any]
    target: Name
    lowering: Name
    precision: dict[Stage, Name]
    max_context: Rows
    num_image_tokens: Count
    command: LongText
    versions: dict[Text, Text]
    verification: dict[Text, dict[Text, Comparison]]
    files: dict[FileName, FileEntry]
    parts: dict[Name, Annotated[list[Count], Length(2)]] = field(default_factory=dict)
    compiled: dict[Text, Text] = field(default_factory=dict)
    tensorrt: TensorrtEntry = field(default_factory=TensorrtEntry)
    spare: list[FileName] = field(default_factory=list)
    machine: dict[Text, Text] = field(default_factory=dict)
    forms: dict[Stage, StageForm] = field(default_factory=dict)
    choices: ChoicesEntry = field(default_factory=ChoicesEntry)
    format_version: int = FORMAT_VERSION
    seal: str = ""


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Computes the seal that belongs to a manifest's other fields."""
    fields = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
