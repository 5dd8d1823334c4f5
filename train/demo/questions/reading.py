"""Questions for what is written, for what a chart shows, and for a description."""

from __future__ import annotations

import random

from ..wordings.phrases import ask
from ..world import facts
from ..world.scenes import COLORS, Scene
from .question import Question, others, yes_no


def reading(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions for a text, free or on a shape, and whether there is any.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    found = []
    for written in scene.texts:
        kind = "number" if written.text.isdigit() else "word"
        text = ask(kind, rng)
        found += [Question(kind, text, written.text, f"The {kind} is {written.text}.", (), written.text)]
        if rng.random() < 0.5:
            text = ask(kind, rng)
            found.append(Question(kind, text, written.text, f"The {kind} is {written.text}.", (), written.text))
    for thing in scene.things:
        if thing.text:
            kind, name = "number" if thing.text.isdigit() else "word", f"the {thing.shape}"
            text = ask("on_thing", rng, the=name) if rng.random() < 0.5 else ask(kind, rng)
            found.append(Question(kind, text, thing.text, f"The {kind} is {thing.text}.", (), thing.text))
    anything = bool(scene.texts) or any(t.text for t in scene.things)
    if rng.random() < 0.08:
        found.append(yes_no("existence", ask("has_text", rng), anything, "there is some text", "there is no text"))
    return found


def chart(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions for a chart's kind and its largest and smallest part.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    if scene.chart is None:
        return []
    bar = scene.chart.kind == "bar"
    largest, smallest = facts.extremes(scene.chart)
    found = [
        Question("chart", ask("chart", rng), f"{scene.chart.kind} chart", f"This is a {scene.chart.kind} chart.", ())
    ]
    for answer, words in (
        (largest, ("tallest", "highest", "largest", "biggest")),
        (smallest, ("shortest", "lowest", "smallest")),
    ):
        which = rng.choice(words if bar else [word for word in words if word in ("largest", "biggest", "smallest")])
        text = ask("extreme_bar" if bar else "extreme_slice", rng, which=which)
        noun = "bar" if bar else "slice"
        found.append(Question("chart", text, answer, f"The {which} {noun} is {answer}.", others(COLORS, answer, rng)))
    return found


def describe(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns a request to describe the image, or nothing.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    text = facts.caption(scene, rng, most=4)
    return [Question("describe", ask("describe", rng), text, text, ())] if rng.random() < 0.35 else []
