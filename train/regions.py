"""Labels of an image's patches: what a vision tower can be taught beside captions.

A row may say what its image shows where: `"regions": [{"box": [left, top, right, bottom], "kind": "circle", "color":
"red"}, ...]`, the box in fractions of the image's width and height, the attributes of any name. Every patch then is
labelled with the attributes of what covers it, and with its own row and column. A caption tells a tower that there is a
circle, a region shows it which pixels are the circle (RegionCLIP, arXiv 2112.09106, has the same aim for what captions
never taught).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import nn

from mobilevlm.errors import UserError

from .masking import RowError

CENTRE = "centre"  # attribute of the patch at the centre of each region: it makes things countable
# Attributes of every patch: a projector's convolutions pass positions on only if the patches hold their own.
PLACES = ("row", "column")
OWN = (CENTRE, *PLACES)
LEAST_COVER = 0.25  # fraction of a patch that a region has to cover to label it
BACKGROUND_WEIGHT = 0.2


@dataclass(frozen=True)
class RegionVocabulary:
    """Attributes of regions, and the values of each.

    Attributes:
        values: attribute to its values; a label is 1 + the index of its value, 0 where there is none.
    """

    values: dict[str, list[str]]

    @classmethod
    def of(cls, rows: Iterable[Any], grid: int) -> RegionVocabulary:
        """Collects all attributes and values of rows; a row whose regions are wrong is reported when it is trained on.

        Args:
            rows: rows of the training data.
            grid: patches along an edge.

        Raises:
            UserError: no row has regions.
        """
        found: dict[str, set[str]] = {}
        for row in rows:
            with suppress(RowError):
                for region in _regions(row):
                    for name, value in _attributes(region).items():
                        found.setdefault(name, set()).add(value)
        if not found:
            raise UserError("no row has regions to learn from: add them to the rows, or give --region-loss-weight 0")
        places = {name: [str(index) for index in range(grid)] for name in PLACES}
        return cls({name: sorted(found[name]) for name in sorted(found)} | {CENTRE: [CENTRE]} | places)

    def targets(self, row: dict[str, Any], size: tuple[int, int], square: int, grid: int) -> torch.Tensor:
        """Returns the labels of every patch of a row's image.

        Args:
            row: may have `regions`.
            size: width and height of the image, in pixels.
            square: edge, in the image's pixels, of the centred square that the tower sees: the longer edge where images
                are padded, the shorter one where they are cropped.
            grid: patches along an edge.

        Returns:
            (attributes, grid * grid) int64.

        Raises:
            RowError: a region has no box, or an attribute that is not a text.
        """
        targets = np.zeros((len(self.values), grid, grid), np.int64)
        cover = np.full((grid, grid), LEAST_COVER)
        starts = np.arange(grid)
        for region in _regions(row):
            left, top, right, bottom = _on_grid(region, size, square, grid)
            wide = np.clip(np.minimum(right, starts + 1) - np.maximum(left, starts), 0, 1)
            high = np.clip(np.minimum(bottom, starts + 1) - np.maximum(top, starts), 0, 1)
            covered = high[:, None] * wide
            mine = covered >= cover
            cover = np.where(mine, covered, cover)
            given = _attributes(region)
            for index, (name, values) in enumerate(self.values.items()):
                if name not in OWN:
                    targets[index][mine] = 1 + values.index(given[name]) if name in given else 0
            x, y = int((left + right) // 2), int((top + bottom) // 2)
            if 0 <= x < grid and 0 <= y < grid:
                targets[list(self.values).index(CENTRE), y, x] = 1
        for name, places in zip(PLACES, (1 + starts[:, None], 1 + starts), strict=True):
            targets[list(self.values).index(name)] = places
        return torch.from_numpy(targets).flatten(1)


class RegionHead(nn.Module):
    """Classifier of patches, on the tower's features.

    Args:
        vocabulary: the attributes and their values.
        width: size of a feature.
    """

    def __init__(self, vocabulary: RegionVocabulary, width: int):
        super().__init__()
        self.sizes = [1 + len(values) for values in vocabulary.values.values()]
        self.norm, self.names = nn.LayerNorm(width), nn.Linear(width, sum(self.sizes))

    def forward(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the loss: cross entropy summed over the attributes; patches without a label weigh a fifth.

        Args:
            features: (B, P, width).
            targets: (B, attributes, P) int64, see `RegionVocabulary.targets`.
        """
        logits = self.names(self.norm(features)).float().split(self.sizes, dim=-1)
        losses = []
        for index, scores in enumerate(logits):
            wanted = targets[:, index].flatten()
            weights = torch.where(wanted > 0, 1.0, BACKGROUND_WEIGHT)
            each = nn.functional.cross_entropy(scores.flatten(0, 1), wanted, reduction="none")
            losses.append((weights * each).mean())
        return torch.stack(losses).sum()


def _regions(row: Any) -> list[dict[str, Any]]:
    regions = row.get("regions", []) if isinstance(row, dict) else []
    return [region for region in regions if isinstance(region, dict)] if isinstance(regions, list) else []


def _attributes(region: dict[str, Any]) -> dict[str, str]:
    given = {name: value for name, value in region.items() if name != "box"}
    if not all(isinstance(value, str) for value in given.values()) or any(name in given for name in OWN):
        raise RowError(f"attributes of a region have to be texts, and none may be called {' or '.join(OWN)}: {given}")
    return given


def _on_grid(region: dict[str, Any], size: tuple[int, int], square: int, grid: int) -> list[float]:
    """Box of a region in patches from the upper left one."""
    box = region.get("box")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise RowError(f"a region's box has to be [left, top, right, bottom], and is {box}")
    return [(edge * size[i % 2] + (square - size[i % 2]) / 2) / square * grid for i, edge in enumerate(box)]


def _is_number(edge: Any) -> bool:
    return isinstance(edge, int | float) and isfinite(edge)
