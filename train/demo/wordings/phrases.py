"""First wordings of usual questions: one grammar for each kind, in the notation of `grammar`."""

from __future__ import annotations

import random
import re

from .grammar import expand

IN = "[in the [picture|image|photo|drawing|scene]|in this [picture|image|photo|drawing]|here|on the picture||||]"
SHOWN = "[in the [picture|image]|shown|visible|here|there|in this [picture|image]]"
PICTURE = "[the [picture|image|photo|drawing]|this [picture|image|photo|drawing]]"
COLOR = "[color|color|colour]"
TELL = "[Tell me|Please tell me|Can you tell me|Could you tell me|Say|I would like to know|I want to know|Do you know]"

QUESTIONS: dict[str, str] = {
    "existence": f"[[Is there|Do you see|Can you see|Do you notice|Can you find|Can you spot] {{thing}} {IN}?"
    f"|Does {PICTURE} [show|contain|have|include] {{thing}}?|{TELL} [if|whether] there is {{thing}} {IN}."
    f"|Are there any {{things}} {IN}?|[Can|Do] you see any {{things}} {IN}?"
    f"|{{thing_cap}}: is [it|there one] {IN}?|Is {{thing}} [present|visible|shown] {IN}?|There is {{thing}} {IN}, right?|Any {{things}} {IN}?|Are {{things}} [present|visible|shown] {IN}?|Does {{thing}} appear {IN}?|I am looking for {{thing}}. Is [it|there one] {IN}?|Do we have {{thing}} {IN}?|Could you check [if|whether] there is {{thing}} {IN}?|Can {{thing}} be seen {IN}?]",
    "existence_color": f"[Is there anything {{color}} {IN}?|Is anything {IN} {{color}}?|Do you see anything {{color}} {IN}?|Is there something {{color}} {IN}?|Is there any {{color}} [thing|object|shape] {IN}?|Any {{color}} [things|objects|shapes] {IN}?]",
    "color_choice": f"[Is {{the}} {{one}} or {{other}} {IN}?|Is the {COLOR} of {{the}} {{one}} or {{other}}?|{{the_cap}}: {{one}} or {{other}}?|Which {COLOR} is {{the}}, {{one}} or {{other}}?]",
    "shape_choice": f"[Is {{the}} {{one}} or {{other}} {IN}?|{{the_cap}}: {{one}} or {{other}}?|What is {{the}}, {{one}} or {{other}}?]",
    "what_is": f"[Which [shape|object|thing] is {{color}} {IN}?|What {IN} is {{color}}?|What {{color}} [shape|object|thing] [do you see|is there|is shown] {IN}?|What is the {{color}} [thing|object] {IN}?]",
    "further": "[Which [is|one is|shape is] further [to the {side}|{side}], {one} or {other}?|Which is more to the {side}, {one} or {other}?]",
    "higher": f"[Which [is|one is|shape is] {{side}} {IN}, {{one}} or {{other}}?|What is {{side}}, {{one}} or {{other}}?]",
    "is_color": f"[Is {{the}} {{color}} {IN}?|Is the {COLOR} of {{the}} {{color}}?|Is it true that {{the}} is {{color}}?|{{the_cap}} is {{color}}, right?]",
    "is_shape": f"[Is {{the}} {{shape}} {IN}?|Is it true that {{the}} is {{shape}}?|{{the_cap}} is {{shape}}, right?|Is the shape of {{the}} {{shape}}?]",
    "are_many": f"[Are there {{number}} {{things}} {IN}?|Do you see {{number}} {{things}} {IN}?|Are there exactly {{number}} {{things}} {IN}?|Is the number of {{things}} {{number}}?|Does {PICTURE} [show|contain] {{number}} {{things}}?]",
    "is_written": f"[Is the {{kind}} {IN} {{text}}?|Does it say {{text}} {IN}?|Is {{text}} written {IN}?|Does {PICTURE} [say|show the {{kind}}] {{text}}?|Can you read the {{kind}} {{text}} {IN}?]",
    "color": f"[What {COLOR} is {{the}} {IN}?|What {COLOR} does {{the}} have?|What is the {COLOR} of {{the}} {IN}?|Which {COLOR} is {{the}} {IN}?"
    f"|What's the {COLOR} of {{the}}?|{TELL} the {COLOR} of {{the}}.|Name the {COLOR} of {{the}}.|{{the_cap}} is what {COLOR}?"
    f"|In what {COLOR} is {{the}} [drawn|painted|shown]?|{TELL} what {COLOR} {{the}} is.|What {COLOR} would you say {{the}} is?|{COLOR} of {{the}}?|What is the {COLOR} [that|which] {{the}} has?|How is {{the}} colored?|Which {COLOR} was used for {{the}} {IN}?|Identify the {COLOR} of {{the}}.|What {COLOR} do you see on {{the}}?|{{the_cap}}: what {COLOR}?]",
    "shape": f"[What shape is {{the}} {IN}?|What is the shape of {{the}} {IN}?|Which shape is {{the}}?|What kind of shape is {{the}} {IN}?"
    f"|What is {{the}} {IN}?|What's the shape of {{the}}?|{TELL} the shape of {{the}}.|{TELL} what shape {{the}} is."
    f"|Name the shape of {{the}}.|{{the_cap}} is what shape?|What [form|figure] is {{the}}?|What shape does {{the}} have?|Identify the shape of {{the}}.|What geometric [shape|figure] is {{the}} {IN}?|Which [form|shape] does {{the}} have?|What type of shape is {{the}}?|{{the_cap}}: what shape is it?]",
    "count": f"[How many {{things}} are there {IN}?|How many {{things}} [do|can] you [see|count|find|spot] {IN}?|Count the {{things}} {IN}."
    f"|What is the number of {{things}} {IN}?|What's the number of {{things}}?|{TELL} how many {{things}} there are {IN}."
    f"|How many {{things}} does {PICTURE} [show|have|contain]?|How many {{things}} are {SHOWN}?|Number of {{things}} {IN}?"
    f"|Give the number of {{things}}.|How many {{things}}?|Please count the {{things}} {IN}.|How many {{things}} in total?|How many {{things}} are there in total {IN}?|Total number of {{things}}?|Can you count the {{things}} {IN}?|What's the count of {{things}}?|Let me know how many {{things}} there are.|How many {{things}} appear {IN}?]",
    "is_side": f"[Is {{one}} {{side}} {{other}} {IN}?|{TELL} [if|whether] {{one}} is {{side}} {{other}}.|{{one_cap}} is {{side}} {{other}}, right?"
    f"|Is it true that {{one}} is {{side}} {{other}}?|Would you say {{one}} is {{side}} {{other}}?|Is {{one}} located {{side}} {{other}}?|Does {{one}} lie {{side}} {{other}}?|Would it be right to say that {{one}} is {{side}} {{other}}?|Do you see {{one}} {{side}} {{other}}?]",
    "which_side": f"[Where is {{one}} [relative|compared] to {{other}} {IN}?|Where is {{one}} in relation to {{other}}?"
    f"|On which side of {{other}} is {{one}}?|Where does {{one}} lie, seen from {{other}}?|What is the position of {{one}} relative to {{other}}?"
    f"|{TELL} where {{one}} is relative to {{other}}.|Is {{one}} {{choice}} {{other}}?|Which way is {{one}} from {{other}}?"
    f"|In which direction from {{other}} is {{one}}?|Where is {{one}} with respect to {{other}}?|Where can you find {{one}}, relative to {{other}}?|Where is {{one}}, {{choice}} {{other}}?|How is {{one}} placed relative to {{other}}?|What is {{one}}'s position relative to {{other}}?|Would you find {{one}} {{choice}} {{other}}?]",
    "what_side": f"[What is {{side}} {{other}} {IN}?|What can you see {{side}} {{other}}?|Which [shape|object|thing] is {{side}} {{other}} {IN}?"
    f"|What [shape|object] is {{side}} {{other}}?|What do you see {{side}} {{other}}?|{TELL} what is {{side}} {{other}}.]",
    "place": f"[Where is {{the}} {IN}?|Where in {PICTURE} is {{the}}?|In which part of {PICTURE} is {{the}}?|Where can you see {{the}} {IN}?"
    f"|What is the position of {{the}} {IN}?|{TELL} where {{the}} is.|Where do you see {{the}}?]",
    "size": f"[Is {{the}} [big or small|small or big|large or small|small or large] {IN}?|What size is {{the}} {IN}?|How big is {{the}}?|What is the size of {{the}}?|Would you call {{the}} [big or small|small or large]?|Does {{the}} look [big or small|small or big]?]",
    "compare": "[Which [is|one is|shape is] {more}, {one} or {other}?|What is {more}, {one} or {other}?|Which is the {more} one, {one} or {other}?"
    "|Is {one} or {other} {more}?]",
    "is_bigger": "[Is {one} {more} than {other}?|Is it true that {one} is {more} than {other}?|{one_cap} is {more} than {other}, right?]",
    "number": f"[What number is {SHOWN}?|What number is [written|printed|shown] {IN}?|Which number is {SHOWN}?|Which number is [written|printed|shown] {IN}?|What is the number {IN}?|What number [do|can] you [see|read] {IN}?"
    f"|Read the number {IN}.|{TELL} the number {IN}.|What does the number say?|Which number [do|can] you [read|see] {IN}?|What is written {IN}?"
    f"|What does {PICTURE} say?|What digits are [written|shown] {IN}?|What is the value of the number?|Please read the number.|What does it say {IN}?|What's the number {IN}?|Which number is it?|Can you read the number?|What number is it {IN}?|Tell me which number is [written|shown|printed] {IN}.|Identify the number {IN}.|Which digits do you see {IN}?]",
    "word": f"[What word is {SHOWN}?|What word is [written|printed|shown] {IN}?|Which word is {SHOWN}?|Which word is [written|printed|shown] {IN}?|What is the word {IN}?|What word [do|can] you [see|read] {IN}?"
    f"|Read the word {IN}.|{TELL} the word {IN}.|What does the [word|text|sign] say {IN}?|What is written {IN}?|What does {PICTURE} say?"
    f"|What text is {SHOWN}?|What text is written {IN}?|Please read the [word|text].|What does it say {IN}?|What is the text {IN}?|What's the word {IN}?|Can you read the word?|Tell me which word is [written|shown|printed] {IN}.|Which text do you see {IN}?|What is printed {IN}?]",
    "on_thing": "[What [number|text] is [on|in|inside] {the}?|What is written [on|in|inside] {the}?|What does {the} say?|Read [what is|the text] on {the}.]",
    "has_text": f"[Is there [any|some] [text|writing] {IN}?|Is [any|some] text written {IN}?|Are [any|some] words or numbers written {IN}?|Is anything written {IN}?|Does {PICTURE} contain text?|Can you see any text {IN}?]",
    "text_color": f"[What {COLOR} is the {{kind}} {IN}?|What is the {COLOR} of the {{kind}} {IN}?|In which {COLOR} is the {{kind}} written?|{TELL} the {COLOR} of the {{kind}}.]",
    "background": f"[What {COLOR} is the background {IN}?|What is the {COLOR} of the background {IN}?|What is the background {COLOR}?|Which {COLOR} is the background?|{TELL} the {COLOR} of the background.|What is the {COLOR} behind the shapes?|On what {COLOR} background [are things drawn|is it drawn]?]",
    "parts": f"[How many [bars|columns] [are there|are in the chart|does the chart have|do you see|are shown] {IN}?|Count the bars {IN}.|What is the number of bars?]",
    "slices": f"[How many [slices|parts|sections] [are there|are in the chart|does the chart have|do you see|are shown] {IN}?|Count the slices {IN}.]",
    "extreme_bar": f"[What {COLOR} is the {{which}} bar {IN}?|Which bar is the {{which}}?|What is the {COLOR} of the {{which}} bar?|Which {COLOR} is the {{which}} bar?]",
    "extreme_slice": f"[What {COLOR} is the {{which}} [slice|part|section] {IN}?|Which [slice|part] is the {{which}}?|What is the {COLOR} of the {{which}} slice?]",
    "chart": f"[What kind of chart is [this|it|shown] {IN}?|What type of chart is [this|it|shown]?|Which kind of chart [is this|do you see]?|Is this a bar chart or a pie chart?]",
    "describe": f"[Describe {PICTURE}.|What is in {PICTURE}?|What do you see {IN}?|What can you see {IN}?|What is in {PICTURE}?|What does {PICTURE} show?"
    f"|Please describe {PICTURE}.|Can you describe {PICTURE}?|Describe what you see.|What is shown {IN}?|Give a short description of {PICTURE}.|Tell me about {PICTURE}.|What's in {PICTURE}?]",
}
SYNONYMS = (  # used in questions only: an answer has one word for a thing
    ("gray", "grey", 0.2),
    ("oval", "ellipse", 0.15),
    ("diamond", "rhombus", 0.1),
    ("crosses", "plus signs", 0.1),
    ("cross", "plus sign", 0.1),
    ("purple", "violet", 0.08),
    ("picture", "graphic", 0.04),
    ("big", "large", 0.15),
)
SHORT_ANSWER = "Answer the question using a single word or phrase."
LETTER_ANSWER = "Answer with the option's letter from the given choices directly."


class Asked(str):
    """Text of a question that keeps its kind and fields, so that it can be worded again."""

    kind: str
    words: dict[str, str]

    @classmethod
    def of(cls, text: str, kind: str, words: dict[str, str]) -> Asked:
        """Returns a text together with what it was made from.

        Args:
            text: the question as worded.
            kind: key of `QUESTIONS`.
            words: values of the grammar's fields.
        """
        self = cls(text)
        self.kind, self.words = kind, words
        return self


def ask(kind: str, rng: random.Random, /, **words: str) -> Asked:
    """Returns a question of a kind, sometimes as people type: in lower case, without a question mark, with a greeting.

    Args:
        kind: key of `QUESTIONS`.
        rng: source of randomness.
        **words: values of the grammar's fields.
    """
    text = expand(QUESTIONS[kind], rng).format(**words)
    text = re.sub(r"\s+", " ", text)
    for name, other, chance in SYNONYMS:
        if rng.random() < chance:
            text = re.sub(rf"\b{name}\b", other, text)
    if rng.random() < 0.1:
        text = text.lower()
    if rng.random() < 0.08:
        text = text.rstrip("?.")
    if rng.random() < 0.06:
        text = (
            rng.choice(["Hello, ", "Please: ", "Hi! ", "Question: ", "Look at the picture. ", "Quick question: "])
            + text
        )
    return Asked.of(text, kind, words)
