"""Reports of a run: the file that describes it, and its scores as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mobilevlm.atomic_file import write_whole
from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.commands import command
from mobilevlm.engines.tables import markdown_table
from mobilevlm.errors import UserError

from .engine import Engine
from .published import SOURCE, TASKS, average, published_for

RUN_FILE, SCORES_FILE, TABLE_FILE = "run.json", "scores.json", "scores.md"


@dataclass(frozen=True)
class Score:
    """The result of one benchmark.

    Attributes:
        task: name of the benchmark.
        title: the paper's.
        headline: name of the metric in the paper's table.
        n: number of questions that the headline is over, see `Task.graded`.
        answers: number of answers.
        failed: number of questions that could not be asked.
        metrics: all metrics, by name.
    """

    task: str
    title: str
    headline: str
    n: int
    answers: int
    failed: int
    metrics: Mapping[str, float]


def claim(out: Path, engine: Engine, conv_mode: str, data: Path) -> None:
    """Begin a run in a directory, or check that the run in it is the same.

    Args:
        out: of the run; it is made.
        engine: that answers.
        conv_mode: name of the conversation template.
        data: the directory that has `benchmark_data`.

    Raises:
        UserError: the directory holds another run, or something else.
    """
    mine = dict(engine.identity) | {"conv_mode": conv_mode, "data": str(data.resolve())}
    path = out / RUN_FILE
    out.mkdir(parents=True, exist_ok=True)
    # Listed before the look for the run's file: a shard that begins beside this one writes that file first.
    foreign = [child.name for child in out.iterdir() if not child.name.startswith(RUN_FILE)]
    if not path.is_file():
        if foreign:
            raise UserError(f"{out} holds something else than a run of `{command('eval/run.py')}`: give another --out")
        write_whole(path, (json.dumps(mine, indent=2) + "\n").encode(), shared=True)
    theirs = read_run(out)
    changed = [name for name in {**theirs, **mine} if theirs.get(name) != mine.get(name)]
    if changed:
        name = changed[0]
        raise UserError(
            f"{out} holds the answers of another run ({name} was {theirs.get(name)}, is {mine.get(name)}): give "
            "another --out, or remove it"
        )


def read_run(out: Path) -> dict[str, str]:
    """Description of a run: identity of its engine, template and data.

    Raises:
        UserError: there is no run in the directory.
    """
    try:
        described: dict[str, str] = json.loads((out / RUN_FILE).read_text())
    except (OSError, ValueError):
        run = command("eval/run.py")
        raise UserError(f"{out} is no run of `{run}`: {RUN_FILE} is missing or damaged") from None
    return described


def write_report(out: Path, scores: Sequence[Score], config: ModelConfig) -> str:
    """Write `scores.json` and `scores.md`.

    Args:
        out: directory of the run.
        scores: of the benchmarks that have one.
        config: of the model, whose published scores are set beside.

    Returns:
        The table, in Markdown.
    """
    published = published_for(config)
    rows = []
    for score in scores:
        value = score.metrics[score.headline]
        note = f" ({score.failed} could not be asked)" if score.failed else ""
        rows.append([score.title, score.headline, f"{score.n}{note}", *_beside(value, published, score.task)])
    headlines = {score.task: score.metrics[score.headline] for score in scores}
    if set(headlines) == set(TASKS):
        n = sum(score.n for score in scores)
        rows.append(["average", "MME / 20", str(n), *_beside(average(headlines), published, "average")])
    table = markdown_table(["benchmark", "metric", "n", "score", "published", "difference"], rows)
    (out / TABLE_FILE).write_text(table + (f"\n\nPublished: {SOURCE}.\n" if published else "\n"))
    content = {"scores": [asdict(score) for score in scores], "published": published}
    (out / SCORES_FILE).write_text(json.dumps(content, indent=2) + "\n")
    return table


def _beside(value: float, published: Mapping[str, float], name: str) -> list[str]:
    """Last columns of a row: the score, the published one and the difference."""
    if name not in published:
        return [f"{value:.1f}", "", ""]
    return [f"{value:.1f}", str(published[name]), f"{value - published[name]:+.1f}"]
