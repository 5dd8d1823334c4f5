"""A picture of a benchmark: every stage beside its limit, and power over time where there are rails."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mobilevlm.errors import UserError, user_path

from .measure import Measured
from .rails import rail_sets
from .results import Stage

ONCE = ("load", "load and first TTFT")  # and much longer than the rest


def check_plot() -> None:
    """Refuse before anything is measured what could not be drawn.

    Raises:
        UserError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib: pip install matplotlib")


def write_plot(file: str, stages: Sequence[Stage], measured: Measured) -> Path:
    """Draw it; the file's ending says in which format."""
    from matplotlib.figure import Figure

    shown = [stage for stage in stages if stage.name not in ONCE]
    rails = set().union(*(one.rails_mw for one in measured.samples)) if measured.samples else set()
    figure = Figure(figsize=(8, 3.5 + 2.5 * bool(rails)), layout="constrained")
    axes = figure.subplots(1 + bool(rails), squeeze=False)[:, 0]
    places = range(len(shown))
    medians = [stage.median_ms for stage in shown]
    spread = [max(0.0, stage.p95_ms - stage.median_ms) for stage in shown]
    none = [0.0] * len(shown)
    axes[0].barh(places, medians, xerr=[none, spread], color="tab:green", label="median, whisker to p95")
    limits = [(place, stage.limit.ms) for place, stage in zip(places, shown, strict=True) if stage.limit]
    if limits:
        axes[0].plot([ms for _, ms in limits], [place for place, _ in limits], "k|", ms=16, label="limit on paper")
    axes[0].set_yticks(places, [stage.name for stage in shown])
    axes[0].invert_yaxis()
    axes[0].set_xscale("log")
    axes[0].set_xlabel("ms (of one token where it decodes)")
    axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    for name, members in rail_sets(rails).items():
        complete = [one for one in measured.samples if set(members) <= set(one.rails_mw)]
        seconds = [one.at_s - measured.idle.begin_s for one in complete]
        watts = [sum(one.rails_mw[rail] for rail in members) / 1e3 for one in complete]
        axes[1].plot(seconds, watts, label=f"{name} ({' + '.join(members)})")
    if rails:
        axes[1].set_xlabel("s")
        axes[1].set_ylabel("W")
        axes[1].legend()
    path = user_path(file)
    figure.savefig(path)
    return path
