"""Questions that state a colour, shape, number or text, to be confirmed or denied."""

from __future__ import annotations

import random

from ..wordings.phrases import ask
from ..world.facts import NUMBER_WORDS, a, plural, things_called
from ..world.scenes import COLORS, SHAPES, WORDS, Scene
from .attributes import without_color
from .question import Question, others, yes_no


def check(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns statements on colour, shape, number and writing, to be confirmed or denied.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    found = []
    truth = rng.random() < 0.5
    for thing in rng.sample(scene.things, min(1, len(scene.things))):
        name = without_color(scene, thing, rng)
        if name:
            said = thing.color if truth else rng.choice(others(COLORS, thing.color, rng))
            text = ask("is_color", rng, the=f"the {name}", the_cap=f"The {name}", color=said)
            yes, no = f"the {name} is {said}", f"the {name} is {thing.color}"
            found.append(yes_no("color", text, truth, yes, no, thing.name))
        if len(things_called(scene, color=thing.color)) == 1:
            said = thing.shape if truth else rng.choice(others(SHAPES, thing.shape, rng))
            name = f"{thing.color} {rng.choice(['shape', 'object', 'thing', 'one'])}"
            text = ask("is_shape", rng, the=f"the {name}", the_cap=f"The {name}", shape=a(said))
            doubtful = {said, thing.shape} <= {"square", "rectangle", "diamond"} and not truth
            yes, no = f"the {name} is {a(said)}", f"the {name} is {a(thing.shape)}"
            question = yes_no("shape", text, truth, yes, no, thing.name)
            found += [] if doubtful else [question]
        number = len(things_called(scene, thing.shape))
        claimed = number if truth else rng.choice([n for n in range(1, 7) if n != number])
        word = NUMBER_WORDS[claimed] if rng.random() < 0.7 else str(claimed)
        text = ask("are_many", rng, number=word, things=plural(thing.shape))
        verb, noun = ("is", thing.shape) if number == 1 else ("are", plural(thing.shape))
        if claimed > 1 and (number > 1 or rng.random() < 0.3):
            statement = f"there {verb} {number} {noun}"
            about = f"how many {plural(thing.shape)}"
            found.append(yes_no("count", text, truth, statement, statement, about))
    found += _choices(scene, rng)
    return found + [is_written(written.text, truth, rng) for written in scene.texts]


def is_written(text: str, truth: bool, rng: random.Random) -> Question:
    """Returns the question whether a text is written.

    Args:
        text: the number or word that is written.
        truth: whether to ask for that text; otherwise for another one.
        rng: source of randomness.
    """
    kind, other = ("number", misread) if text.isdigit() else ("word", another_word)
    asked = ask("is_written", rng, kind=kind, text=text if truth else other(text, rng))
    statement = f"it says {text}"
    return yes_no(kind, asked, truth, statement, statement, text)


def _choices(scene: Scene, rng: random.Random) -> list[Question]:
    """Questions for one of two colours, for one of two shapes, and for what has a colour."""
    found = []
    for thing in rng.sample(scene.things, min(1, len(scene.things))):
        name = without_color(scene, thing, rng)
        if name and rng.random() < 0.5:
            pair = rng.sample([thing.color, rng.choice(others(COLORS, thing.color, rng))], 2)
            text = ask("color_choice", rng, the=f"the {name}", the_cap=f"The {name}", one=pair[0], other=pair[1])
            found.append(Question("color", text, thing.color, f"The {name} is {thing.color}.", about=thing.name))
        if len(things_called(scene, color=thing.color)) == 1 and rng.random() < 0.7:
            name = f"{thing.color} {rng.choice(['shape', 'object', 'thing', 'one'])}"
            pair = rng.sample([thing.shape, rng.choice(others(SHAPES, thing.shape, rng))], 2)
            words = {"the": f"the {name}", "the_cap": f"The {name}", "one": a(pair[0]), "other": a(pair[1])}
            text = ask("shape_choice", rng, **words)
            if rng.random() < 0.5:
                text = ask("what_is", rng, color=thing.color)
            found.append(Question("shape", text, thing.shape, f"The {name} is {a(thing.shape)}.", about=thing.name))
    return found


def misread(digits: str, rng: random.Random) -> str:
    """Returns another number with as many digits; half of the time all digits but one are the same.

    Args:
        digits: the number that is written.
        rng: source of randomness.
    """
    if rng.random() < 0.5 and len(digits) > 1:
        low = 10 ** (len(digits) - 1)
        return str(rng.choice([number for number in range(low, 10 * low) if str(number) != digits]))
    place = rng.randrange(len(digits))
    digit = rng.choice([d for d in "123456789" if d != digits[place]])
    return digits[:place] + digit + digits[place + 1 :]


def another_word(word: str, rng: random.Random) -> str:
    """Returns another word in the same case, or the case alone would tell which is written.

    Args:
        word: the word that is written.
        rng: source of randomness.
    """
    other = rng.choice([w for w in WORDS if w != word.lower()])
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
