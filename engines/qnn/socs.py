"""Snapdragon SoCs by their common names: context binaries are compiled for one of them.

Model numbers and architectures are those of QNN's own table, as ExecuTorch's Qualcomm backend lists them
(backends/qualcomm/serialization/qc_schema.py); the bandwidth is that of the fastest memory the maker's product brief
names: channels of 16 bits times transfers a second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mobilevlm.errors import UserError

# Before it, two graphs cannot have one set of weights, and 16-bit values cannot be multiplied by each other.
SHARING_ARCHITECTURE = 73
# Graphs with int4 weights compile for v69, too, but its simulator crashes in the second token.
INT4_ARCHITECTURE = 73


@dataclass(frozen=True)
class Soc:
    """A Snapdragon SoC.

    Attributes:
        name: the maker's number for it.
        nicknames: other names that `--soc` takes.
        model: QNN's number.
        htp: version of the Hexagon architecture.
        gigabytes: nominal memory bandwidth in GB/s.
    """

    name: str
    nicknames: tuple[str, ...]
    model: int
    htp: int
    gigabytes: float

    @property
    def multiplies_16_bits(self) -> bool:
        """Whether 16-bit weights may be multiplied by 16-bit activations."""
        return self.htp >= SHARING_ARCHITECTURE

    @property
    def takes_int4(self) -> bool:
        """Whether weights may be int4 with a scale for each block."""
        return self.htp >= INT4_ARCHITECTURE

    @property
    def shares_weights(self) -> bool:
        """Whether prompt and token graph can share one set of weights in one binary."""
        return self.htp >= SHARING_ARCHITECTURE

    def __str__(self) -> str:
        return f"{self.name} (Snapdragon {self.nicknames[0]}, HTP v{self.htp})"


SOCS = (
    Soc("sm8350", ("888",), 30, 68, 51.2),
    Soc("sm8450", ("8gen1",), 36, 69, 51.2),
    Soc("sm8475", ("8+gen1",), 42, 69, 51.2),
    Soc("sm8550", ("8gen2", "qcs8550"), 43, 73, 67.2),
    Soc("sm8650", ("8gen3",), 57, 75, 76.8),
    Soc("sm8750", ("8elite",), 69, 79, 84.8),
    Soc("sm8850", ("8elitegen5",), 87, 81, 84.8),
    Soc("sc8380xp", ("x-elite", "x-plus"), 60, 73, 135.2),
)


def find_soc(text: str) -> Soc:
    """Returns the SoC of a name.

    Raises:
        UserError: there is none of that name; says which there are.
    """
    wanted = _plain(text)
    for soc in SOCS:
        if wanted in map(_plain, (soc.name, *soc.nicknames)):
            return soc
    known = ", ".join(f"{soc.name} ({', '.join(soc.nicknames)})" for soc in SOCS)
    raise UserError(f"--soc {text} is not known; choose from {known}")


def _plain(text: str) -> str:
    return re.sub("[ _-]|snapdragon", "", text.lower())
