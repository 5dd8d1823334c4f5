"""Reports of a comparison: a table, a plot, and a section in the `report.md` of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobilevlm.atomic_file import write_whole
from mobilevlm.engines.stages import REPORT_FILE
from mobilevlm.engines.tables import markdown_table

from .difference import Difference
from .tasks import TASKS

HEADING = "## Accuracy"
PLOT_WIDTH = 3.0  # inches for a benchmark


def render(found: Sequence[Difference], names: Sequence[str]) -> str:
    """Markdown table with a row for each benchmark and run.

    Args:
        found: of all benchmarks and runs.
        names: of the runs, the reference's first.
    """
    header = ["benchmark", "run", "n", "score", f"difference from {names[0]}", "95 % interval", "same answers"]
    rows = []
    for item in found:
        change = [f"{item.difference:+.2f}", f"{item.low:+.2f} to {item.high:+.2f}", f"{item.agreement:.1%}"]
        change = ["", "", ""] if item.run == names[0] else change
        rows.append([TASKS[item.task].title, item.run, str(item.n), f"{item.score:.2f}", *change])
    return markdown_table(header, rows)


def plot(found: Sequence[Difference], names: Sequence[str], path: Path) -> None:
    """Draw the differences with their intervals, a panel for each benchmark.

    Args:
        found: of all benchmarks and runs.
        names: of the runs, the reference's first.
        path: of the PNG file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(item.task for item in found))
    others = list(reversed(names[1:]))  # the first at the top
    figure, axes = pyplot.subplots(
        1, len(tasks), figsize=(PLOT_WIDTH * len(tasks), 1 + 0.4 * len(others)), squeeze=False, constrained_layout=True
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        items = {item.run: item for item in found if item.task == task}
        for height, name in enumerate(others):
            item = items[name]
            axis.plot([item.low, item.high], [height, height], color="tab:blue", linewidth=3, alpha=0.4)
            axis.plot(item.difference, height, "o", color="tab:blue")
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_yticks(range(len(others)), others)
        axis.set_title(f"{TASKS[task].title}: {items[names[0]].score:.1f}", fontsize=9)
        axis.set_ylim(-0.6, len(others) - 0.4)
        axis.tick_params(labelsize=7)
    figure.supxlabel(f"difference of the score from {names[0]}, with 95 % interval", fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def tell_bundle(bundle: Path, found: Sequence[Difference], reference: str) -> None:
    """Write the comparison into a bundle's `report.md`, in place of an earlier one.

    Args:
        bundle: its directory.
        found: of all benchmarks, the bundle's run and the reference's.
        reference: name of the reference's run.
    """
    path = bundle / REPORT_FILE
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = before.split(HEADING)[0].rstrip()
    names = [reference, *dict.fromkeys(item.run for item in found if item.run != reference)]
    write_whole(path, f"{text}\n\n{HEADING}\n\n{render(found, names)}\n".encode())
