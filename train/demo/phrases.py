"""How people ask: one grammar per kind of question, expanded at random.

`[a|b|]` picks one alternative (they nest), `{name}` is filled in by the question.
"""

from __future__ import annotations

import random
import re

IN = "[in the [picture|image|photo|drawing|scene]|in this [picture|image|photo|drawing]|here|on the picture||||]"
SHOWN = "[in the [picture|image]|shown|visible|here|there|you can see|in this [picture|image]|]"
PICTURE = "[the [picture|image|photo|drawing]|this [picture|image|photo|drawing]]"
COLOR = "[color|color|colour]"
TELL = "[Tell me|Please tell me|Can you tell me|Could you tell me|Say|I would like to know|I want to know|Do you know]"

QUESTIONS: dict[str, str] = {
    "existence": f"[[Is there|Do you see|Can you see|Do you notice|Can you find|Can you spot] {{thing}} {IN}?"
    f"|Does {PICTURE} [show|contain|have|include] {{thing}}?|{TELL} [if|whether] there is {{thing}} {IN}."
    f"|Are there any {{things}} {IN}?|[Can|Do] you see any {{things}} {IN}?"
    f"|{{thing_cap}}: is [it|there one] {IN}?|Is {{thing}} [present|visible|shown] {IN}?|There is {{thing}} {IN}, right?]",
    "existence_color": f"[Is there anything {{color}} {IN}?|Is anything {IN} {{color}}?|Do you see anything {{color}} {IN}?|Is there something {{color}} {IN}?]",
    "is_color": f"[Is {{the}} {{color}} {IN}?|Is the {COLOR} of {{the}} {{color}}?|Is it true that {{the}} is {{color}}?|{{the_cap}} is {{color}}, right?]",
    "is_shape": f"[Is {{the}} {{shape}} {IN}?|Is it true that {{the}} is {{shape}}?|{{the_cap}} is {{shape}}, right?|Is the shape of {{the}} {{shape}}?]",
    "are_many": f"[Are there {{number}} {{things}} {IN}?|Do you see {{number}} {{things}} {IN}?|Are there exactly {{number}} {{things}} {IN}?|Is the number of {{things}} {{number}}?|Does {PICTURE} [show|contain] {{number}} {{things}}?]",
    "is_written": f"[Is the {{kind}} {IN} {{text}}?|Does it say {{text}} {IN}?|Is {{text}} written {IN}?|Does {PICTURE} [say|show the {{kind}}] {{text}}?|Can you read the {{kind}} {{text}} {IN}?]",
    "color": f"[What {COLOR} is {{the}} {IN}?|What {COLOR} does {{the}} have?|What is the {COLOR} of {{the}} {IN}?|Which {COLOR} is {{the}} {IN}?"
    f"|What's the {COLOR} of {{the}}?|{TELL} the {COLOR} of {{the}}.|Name the {COLOR} of {{the}}.|{{the_cap}} is what {COLOR}?"
    f"|In what {COLOR} is {{the}} [drawn|painted|shown]?|{TELL} what {COLOR} {{the}} is.|What {COLOR} would you say {{the}} is?]",
    "shape": f"[What shape is {{the}} {IN}?|What is the shape of {{the}} {IN}?|Which shape is {{the}}?|What kind of shape is {{the}} {IN}?"
    f"|What is {{the}} {IN}?|What's the shape of {{the}}?|{TELL} the shape of {{the}}.|{TELL} what shape {{the}} is."
    f"|Name the shape of {{the}}.|{{the_cap}} is what shape?|What [form|figure] is {{the}}?|What shape does {{the}} have?]",
    "count": f"[How many {{things}} are there {IN}?|How many {{things}} [do|can] you [see|count|find|spot] {IN}?|Count the {{things}} {IN}."
    f"|What is the number of {{things}} {IN}?|What's the number of {{things}}?|{TELL} how many {{things}} there are {IN}."
    f"|How many {{things}} does {PICTURE} [show|have|contain]?|How many {{things}} are {SHOWN}?|Number of {{things}} {IN}?"
    f"|Give the number of {{things}}.|How many {{things}}?|Please count the {{things}} {IN}.]",
    "is_side": f"[Is {{one}} {{side}} {{other}} {IN}?|{TELL} [if|whether] {{one}} is {{side}} {{other}}.|{{one_cap}} is {{side}} {{other}}, right?"
    f"|Is it true that {{one}} is {{side}} {{other}}?|Would you say {{one}} is {{side}} {{other}}?|Is {{one}} located {{side}} {{other}}?]",
    "which_side": f"[Where is {{one}} [relative|compared] to {{other}} {IN}?|Where is {{one}} in relation to {{other}}?"
    f"|On which side of {{other}} is {{one}}?|Where does {{one}} lie, seen from {{other}}?|What is the position of {{one}} relative to {{other}}?"
    f"|{TELL} where {{one}} is relative to {{other}}.|Is {{one}} {{choice}} {{other}}?|Which way is {{one}} from {{other}}?"
    f"|In which direction from {{other}} is {{one}}?|Where is {{one}} with respect to {{other}}?|Where can you find {{one}}, relative to {{other}}?]",
    "what_side": f"[What is {{side}} {{other}} {IN}?|What can you see {{side}} {{other}}?|Which [shape|object|thing] is {{side}} {{other}} {IN}?"
    f"|What [shape|object] is {{side}} {{other}}?|What do you see {{side}} {{other}}?|{TELL} what is {{side}} {{other}}.]",
    "place": f"[Where is {{the}} {IN}?|Where in {PICTURE} is {{the}}?|In which part of {PICTURE} is {{the}}?|Where can you see {{the}} {IN}?"
    f"|What is the position of {{the}} {IN}?|{TELL} where {{the}} is.|Where do you see {{the}}?]",
    "size": f"[Is {{the}} [big or small|small or big|large or small|small or large] {IN}?|What size is {{the}} {IN}?|How big is {{the}}?|What is the size of {{the}}?]",
    "compare": "[Which [is|one is|shape is] {more}, {one} or {other}?|What is {more}, {one} or {other}?|Which is the {more} one, {one} or {other}?"
    "|Is {one} or {other} {more}?]",
    "is_bigger": "[Is {one} {more} than {other}?|Is it true that {one} is {more} than {other}?|{one_cap} is {more} than {other}, right?]",
    "number": f"[What number is [{SHOWN}|written|printed] {IN}?|Which number is [{SHOWN}|written|printed] {IN}?|What is the number {IN}?|What number [do|can] you [see|read] {IN}?"
    f"|Read the number {IN}.|{TELL} the number {IN}.|What does the number say?|Which number [do|can] you [read|see] {IN}?|What is written {IN}?"
    f"|What does {PICTURE} say?|What digits are [written|shown] {IN}?|What is the value of the number?|Please read the number.|What does it say {IN}?]",
    "word": f"[What word is [{SHOWN}|written|printed] {IN}?|Which word is [{SHOWN}|written|printed] {IN}?|What is the word {IN}?|What word [do|can] you [see|read] {IN}?"
    f"|Read the word {IN}.|{TELL} the word {IN}.|What does the [word|text|sign] say {IN}?|What is written {IN}?|What does {PICTURE} say?"
    f"|What text is [{SHOWN}|written] {IN}?|Please read the [word|text].|What does it say {IN}?|What is the text {IN}?]",
    "on_thing": "[What [number|text] is [on|in|inside] {the}?|What is written [on|in|inside] {the}?|What does {the} say?|Read [what is|the text] on {the}.]",
    "has_text": f"[Is there [any|some] [text|writing] {IN}?|[Is|Are] [any|some] [text|words or numbers] written {IN}?|Is anything written {IN}?|Does {PICTURE} contain text?|Can you see any text {IN}?]",
    "text_color": f"[What {COLOR} is the {{kind}} {IN}?|What is the {COLOR} of the {{kind}} {IN}?|In which {COLOR} is the {{kind}} written?|{TELL} the {COLOR} of the {{kind}}.]",
    "background": f"[What {COLOR} is the background {IN}?|What is the {COLOR} of the background {IN}?|What is the background {COLOR}?|Which {COLOR} is the background?|{TELL} the {COLOR} of the background.]",
    "parts": f"[How many [bars|columns] [are there|are in the chart|does the chart have|do you see|are shown] {IN}?|Count the bars {IN}.|What is the number of bars?]",
    "slices": f"[How many [slices|parts|sections] [are there|are in the chart|does the chart have|do you see|are shown] {IN}?|Count the slices {IN}.]",
    "extreme_bar": f"[What {COLOR} is the {{which}} bar {IN}?|Which bar is the {{which}}?|What is the {COLOR} of the {{which}} bar?|Which {COLOR} is the {{which}} bar?]",
    "extreme_slice": f"[What {COLOR} is the {{which}} [slice|part|section] {IN}?|Which [slice|part] is the {{which}}?|What is the {COLOR} of the {{which}} slice?]",
    "chart": f"[What kind of chart is [this|it|shown] {IN}?|What type of chart is [this|it|shown]?|Which kind of chart [is this|do you see]?|Is this a bar chart or a pie chart?]",
    "describe": f"[Describe {PICTURE}.|What is in {PICTURE}?|What do you see {IN}?|What can you see {IN}?|What is in {PICTURE}?|What does {PICTURE} show?"
    f"|Please describe {PICTURE}.|Can you describe {PICTURE}?|Describe what you see.|What is shown {IN}?|Give a short description of {PICTURE}.|Tell me about {PICTURE}.|What's in {PICTURE}?]",
}
SHORT_ANSWER = "Answer the question using a single word or phrase."
LETTER_ANSWER = "Answer with the option's letter from the given choices directly."
_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def expand(grammar: str, rng: random.Random) -> str:
    """Pick alternatives, innermost first, and tidy the spaces."""
    while (match := _CHOICE.search(grammar)) is not None:
        grammar = grammar[: match.start()] + rng.choice(match.group(1).split("|")) + grammar[match.end() :]
    return re.sub(r"\s+([?.,:])", r"\1", re.sub(r"\s+", " ", grammar)).strip()


def ask(kind: str, rng: random.Random, /, **words: str) -> str:
    """A question of a kind, now and then as people type: in lower case, without a question mark, with a greeting."""
    text = expand(QUESTIONS[kind], rng).format(**words)
    text = re.sub(r"\s+", " ", text)
    if rng.random() < 0.15:
        text = text.replace("gray", "grey")
    if rng.random() < 0.1:
        text = text.lower()
    if rng.random() < 0.08:
        text = text.rstrip("?.")
    if rng.random() < 0.06:
        text = (
            rng.choice(["Hello, ", "Please: ", "Hi! ", "Question: ", "Look at the picture. ", "Quick question: "])
            + text
        )
    return text
