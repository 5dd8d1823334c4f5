"""The original's published scores, to set beside one's own."""

from __future__ import annotations

from collections.abc import Mapping

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.presets import PRESETS

SOURCE = "README of github.com/Meituan-AutoML/MobileVLM"
TASKS = ("gqa", "sqa", "textvqa", "pope", "mme", "mmbench")
AVERAGE = "average"
# In the paper's order; MME is the sum over perception, and counts divided by 20 in the average.
SCORES: dict[str, tuple[float, ...]] = {
    "mobilevlm_1.7b": (56.1, 57.3, 41.5, 84.5, 1196.2, 53.2, 58.7),
    "mobilevlm_v2_1.7b": (59.3, 66.7, 52.1, 84.3, 1302.8, 57.7, 64.2),
    "mobilevlm_3b": (59.0, 61.2, 47.5, 84.9, 1288.9, 59.6, 62.8),
    "mobilevlm_v2_3b": (61.1, 70.0, 57.5, 84.7, 1440.5, 63.2, 68.1),
    "mobilevlm_v2_7b": (62.6, 74.8, 62.3, 85.3, 1560.7, 69.2, 72.1),
}


def published_for(config: ModelConfig) -> dict[str, float]:
    """Published scores of a model of these sizes, by benchmark; empty where there are none."""
    for name, scores in SCORES.items():
        preset = PRESETS[name]
        if _form(preset) == _form(config):
            return dict(zip((*TASKS, AVERAGE), scores, strict=True))
    return {}


def average(scores: Mapping[str, float]) -> float:
    """Average of all six headline scores, as the paper has it."""
    return sum(value / 20 if name == "mme" else value for name, value in scores.items()) / len(scores)


def _form(config: ModelConfig) -> tuple[object, ...]:
    """Sizes that tell the published models apart."""
    return (config.hidden_size, config.num_hidden_layers, config.mm_projector_type, config.vision is None)
