"""Results that a build, a backend and a phone kit pass to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mobilevlm.commands import command
from mobilevlm.engines.targets import Target

# What a phone kit measures, as its `run.sh` knows it: an image, a prompt of `PROMPT_ROWS` tokens, the token behind it.
PHONE_IMAGE, PHONE_PROMPT, PHONE_TOKEN = "image_encode", "prompt", "token"


@dataclass(frozen=True)
class Compilation:
    """Result of compiling the verified stages.

    Attributes:
        compiled: the manifest's field of this name: what graphs were compiled for and with.
        spare: files that the device does without from now on.
        report: Markdown for the end of `report.md`.
    """

    compiled: dict[str, str] = field(default_factory=dict)
    spare: list[str] = field(default_factory=list)
    report: str = ""


@dataclass(frozen=True)
class Built:
    """A finished build, as the hints about what comes next need it.

    Attributes:
        target: the device it was built for.
        out: directory of the bundle, or of the folder of candidates.
        has_vision: whether the model takes images.
        has_candidates: whether it is a folder of candidates, of which the device keeps one.
    """

    target: Target
    out: Path
    has_vision: bool
    has_candidates: bool

    @property
    def chat(self) -> str:
        """The command line that asks the model a question."""
        image = ("--image", "FILE") if self.has_vision else ()
        return command("runtime/chat.py", "--engine", self.out, *image, "--prompt", "TEXT")


@dataclass(frozen=True)
class PhoneMeasure:
    """One measurement of a phone kit.

    Attributes:
        name: what is measured, as the kit's script knows it.
        provider: ONNX Runtime's execution provider: `cpu`, `xnnpack` or `qnn`.
        graph: file name of the graph that runs.
    """

    name: str
    provider: str
    graph: str
