"""`bundle.json`: what a bundle notes about itself, its types and its seal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from .stage_form import StageForm

FORMAT_VERSION = 1


class FileEntry(TypedDict):
    """Size in bytes and sha256 of a file."""

    size: int
    sha256: str


class Comparison(TypedDict, total=False):
    """A tensor's difference from its reference when the bundle was built (`export/verification/differences.py`)."""

    stage: str
    tensor: str
    snr_db: float
    floor_db: float
    max_abs_diff: float
    mean_abs_diff: float
    max_abs_reference: float
    tolerance: float


class Ingredients(TypedDict):
    """Inputs of an engine's build: sha256 of graph and weights, by file name, and settings of the builder."""

    files: dict[str, str]
    settings: dict[str, bool | int]


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

    machine: dict[str, str]
    engines: dict[str, EngineEntry]


class ChoicesEntry(TypedDict, total=False):
    """How closed questions are answered, see `engines/choice_calibration.py`; without fields where nobody calibrated.

    temperature: divides a choice's score before the softmax
    abstain: probability below which the likeliest choice is no answer
    fitted_on: number of questions that the temperature was fitted on
    """

    temperature: float
    abstain: float
    fitted_on: int


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

    name: str
    model: dict[str, Any]
    target: str
    lowering: str
    precision: dict[str, str]
    max_context: int
    num_image_tokens: int
    command: str
    versions: dict[str, str]
    verification: dict[str, dict[str, Comparison]]
    files: dict[str, FileEntry]
    parts: dict[str, list[int]] = field(default_factory=dict)
    compiled: dict[str, str] = field(default_factory=dict)
    tensorrt: TensorrtEntry = field(default_factory=TensorrtEntry)
    spare: list[str] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)
    forms: dict[str, StageForm] = field(default_factory=dict)
    choices: ChoicesEntry = field(default_factory=ChoicesEntry)
    format_version: int = FORMAT_VERSION
    seal: str = ""


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Computes the seal that belongs to a manifest's other fields."""
    fields = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
