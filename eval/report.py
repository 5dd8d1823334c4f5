"""A run's own file, and its scores as a table for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mobilevlm.atomic_file import write_whole
from mobilevlm.checkpoint.config import ModelConfig
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
        headline: which of the metrics the paper's table has.
        n: questions the headline is over, see `Task.graded`.
        answers: all of them.
        failed: how many of the answers are to questions that could not be asked.
        metrics: all of them.
    """

    task: str
    title: str
    headline: str
    n: int
    answers: int
    failed: int
    metrics: Mapping[str, float]


def claim(out: Path, engine: Engine, conv_mode: str, data: Path) -> None:
    """Make a directory this engine's, or see that it is.

    Raises:
        UserError: it holds answers of another one.
    """
    mine = dict(engine.identity) | {"conv_mode": conv_mode, "data": str(data.resolve())}
    path = out / RUN_FILE
    out.mkdir(parents=True, exist_ok=True)
    # Listed before the look for the run's file: a shard that begins beside this one writes that file first.
    foreign = [child.name for child in out.iterdir() if not child.name.startswith(RUN_FILE)]
    if not path.is_file():
        if foreign:
            raise UserError(f"{out} holds something else than a run of eval/run.py: give another --out")
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
    """What a run's file says.

    Raises:
        UserError: there is none.
    """
    try:
        return json.loads((out / RUN_FILE).read_text())
    except (OSError, ValueError):
        raise UserError(f"{out} is no run of eval/run.py: {RUN_FILE} is missing or damaged") from None


def write_report(out: Path, scores: Sequence[Score], config: ModelConfig) -> str:
    """Write `scores.json` and `scores.md`; the table."""
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
    if name not in published:
        return [f"{value:.1f}", "", ""]
    return [f"{value:.1f}", str(published[name]), f"{value - published[name]:+.1f}"]
