"""Plot of a benchmark: every stage beside its limit, and power over time where there are rails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevlm.errors import UserError, user_path
from mobilevlm.runtime.bench.stages import FIRST_TTFT, LOAD

from .measure import BoardRun
from .rails import rail_sets
from .results import BoardStage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ONCE = (LOAD, FIRST_TTFT)  # and much longer than the rest


def check_plot() -> None:
    """Checks before anything is measured that a plot can be drawn.

    Raises:
        UserError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib: pip install matplotlib")


def write_plot(file: str, stages: Sequence[BoardStage], run: BoardRun) -> Path:
    """Draws stages and power.

    Args:
        file: where to; its suffix says in which format.
        stages: figures of all stages.
        run: with the samples of power.
    """
    from matplotlib.figure import Figure

    rails = set().union(*(one.rails_mw for one in run.samples)) if run.samples else set()
    figure = Figure(figsize=(8, 3.5 + 2.5 * bool(rails)), layout="constrained")
    axes = figure.subplots(1 + bool(rails), squeeze=False)[:, 0]
    _draw_stages(axes[0], [stage for stage in stages if stage.name not in ONCE])
    if rails:
        _draw_power(axes[1], run, rails)
    path = user_path(file)
    figure.savefig(path)
    return path


def _draw_stages(axes: Axes, shown: Sequence[BoardStage]) -> None:
    places = range(len(shown))
    medians = [stage.median_ms for stage in shown]
    spread = [max(0.0, stage.p95_ms - stage.median_ms) for stage in shown]
    none = [0.0] * len(shown)
    axes.barh(places, medians, xerr=[none, spread], color="tab:green", label="median, whisker to p95")
    limits = [(place, stage.limit.ms) for place, stage in zip(places, shown, strict=True) if stage.limit]
    if limits:
        axes.plot([ms for _, ms in limits], [place for place, _ in limits], "k|", ms=16, label="limit on paper")
    axes.set_yticks(places, [stage.name for stage in shown])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("ms (of one token where it decodes)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _draw_power(axes: Axes, run: BoardRun, rails: Iterable[str]) -> None:
    for name, members in rail_sets(rails).items():
        complete = [one for one in run.samples if set(members) <= set(one.rails_mw)]
        seconds = [one.at_s - run.idle.begin_s for one in complete]
        watts = [sum(one.rails_mw[rail] for rail in members) / 1e3 for one in complete]
        axes.plot(seconds, watts, label=f"{name} ({' + '.join(members)})")
    axes.set_xlabel("s")
    axes.set_ylabel("W")
    axes.legend()
