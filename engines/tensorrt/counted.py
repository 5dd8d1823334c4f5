"""Kernel launches and memory traffic of each call of a bundle's engines, as NVIDIA's builder lists them.

`engines/judge.py DIR --json FILE` writes it, `jetson/limits.py --counted FILE` reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mobilevlm.atomic_file import write_whole
from mobilevlm.commands import command
from mobilevlm.errors import UserError

from ..chunks import chunks
from ..stages import VISION
from .buckets import PROMPT_ROWS


@dataclass(frozen=True)
class Call:
    """A call of an engine in one of its optimization profiles.

    Attributes:
        part: the engine: `vision`, `decoder.0`.
        rows: tokens that a decoder runs; 0 for vision.
        past: rows of the cache that it reads; 0 for vision.
        kernels: launches.
        moved: bytes that the kernels read and write.
    """

    part: str
    rows: int
    past: int
    kernels: int
    moved: int


@dataclass(frozen=True)
class Counted:
    """All calls of a bundle's engines.

    Attributes:
        name: of the model.
        model: its configuration, see `ModelConfig`.
        target: of the bundle.
        precision: of the bundle's stages.
        version: of TensorRT-RTX.
        capability: compute capability that it built for.
        calls: of all engines.
    """

    name: str
    model: dict[str, Any]
    target: str
    precision: dict[str, str]
    version: str
    capability: str
    calls: tuple[Call, ...]

    def write(self, path: Path) -> None:
        """Writes a JSON file, which `read_counted` reads."""
        write_whole(path, json.dumps(asdict(self), indent=1).encode())

    def image(self) -> tuple[int, int]:
        """Returns kernels and bytes of an image; zeros without a vision stage."""
        return _sum([call for call in self.calls if call.part == VISION])

    def token(self, past: int) -> tuple[int, int]:
        """Returns kernels and bytes of a decode step with `past` tokens in the cache."""
        return self._call(1, past)

    def prompt(self, rows: int) -> tuple[int, int]:
        """Returns kernels and bytes of a prompt of `rows` tokens, in the chunks that a runtime runs it in."""
        calls = [self._call(len(range(*piece.indices(rows))), piece.start) for piece in chunks(rows, PROMPT_ROWS)]
        return sum(one for one, _ in calls), sum(one for _, one in calls)

    def _call(self, rows: int, past: int) -> tuple[int, int]:
        """Returns kernels and bytes of all the decoder's graphs, in the smallest profile that holds the tokens."""
        fitting = [call for call in self.calls if call.part != VISION and call.rows >= rows and call.past >= past]
        if not fitting:
            longest = max(call.past for call in self.calls)
            raise UserError(f"{rows} rows behind {past} are more than the bundle's engines hold, {longest}")
        sizes = min((call.rows, call.past) for call in fitting)
        return _sum([call for call in fitting if (call.rows, call.past) == sizes])


def read_counted(path: Path) -> Counted:
    """Reads what `Counted.write` wrote.

    Raises:
        UserError: the file is missing, or of another kind.
    """
    again = f"write one with {command('engines/judge.py', 'DIR', '--json', 'FILE')}"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Counted(**document | {"calls": tuple(Call(**call) for call in document["calls"])})
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {again}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"{path} is not what engines/judge.py writes: {again}") from None


def _sum(calls: list[Call]) -> tuple[int, int]:
    return sum(call.kernels for call in calls), sum(call.moved for call in calls)
