"""The wide distribution: right by an independent reader, one meaning each, balanced, and no answer told before."""

import json
import random
import re

import pytest

from mobilevlm.rows.rules import form_of
from mobilevlm.text.templates import TEMPLATES
from mobilevlm.train.demo import make_data
from mobilevlm.train.demo.questions.ends import ends
from mobilevlm.train.demo.questions.several_texts import several_texts
from mobilevlm.train.demo.questions.wide import wide_questions
from mobilevlm.train.demo.wide_conversations import wide_row
from mobilevlm.train.demo.wordings import ends as ends_wordings
from mobilevlm.train.demo.wordings import rewording
from mobilevlm.train.demo.wordings import several_texts as several_texts_wordings
from mobilevlm.train.demo.world.scenes import COLORS, SHAPES, Scene, Text, Thing
from mobilevlm.train.demo.world.wide_scenes import wide_scene
from mobilevlm.train.demo.world.writings import in_order, things_at, writings
from mobilevlm.train.survey import Survey
from tests.train.demo.wide_names import all_written
from tests.train.demo.wide_reader import holds, plain
from tests.train.demo.wide_texts import without_names

SEEDS = 300


@pytest.fixture(scope="module")
def asked():
    """Scenes with their questions; a description is no question that a reader can answer."""
    found = []
    for seed in range(SEEDS):
        rng = random.Random(f"test-wide-{seed}")
        scene = wide_scene(rng)
        found.append((scene, [q for q in wide_questions(scene, rng) if q.kind != "describe"]))
    return found


def test_answers_are_right_and_questions_mean_one_thing(asked):
    """The reader fails where a name fits two things, where a side is a close call, where texts may be meant, too."""
    kinds = set()
    for scene, questions in asked:
        for question in questions:
            assert holds(scene, question.text, question.short), (question, scene)
            assert question.short not in question.wrong
            kinds.add(question.kind)
    assert kinds == {
        *("existence", "color", "shape", "count", "relation", "place", "size", "number", "word", "chart", "compare"),
        "ends",
    }


def test_sentences_say_what_is_so(asked):
    """A yes and a no both go on with what is the case, other answers contain the short one."""
    stated = 0
    for scene, questions in asked:
        if {w.text.lower() for w in all_written(scene)} & {"yes", "no"}:
            continue
        for question in questions:
            answer, statement = question.long.partition(", ")[::2]
            if question.short in ("Yes", "No"):
                assert answer == question.short
            if question.short in ("Yes", "No") and statement.startswith("the "):
                assert holds(scene, statement, "No" if statement.endswith("is not there.") else "Yes"), question
                stated += 1
            elif question.short not in ("Yes", "No", "0") and question.kind != "compare":
                assert question.short in question.long.lower() or question.short in question.long
    assert stated > 500


def test_yes_and_no_are_balanced():
    """Neither is a strategy, for no kind of question."""
    said: dict[str, list[str]] = {}
    for seed in range(500):
        rng = random.Random(f"balance-{seed}")
        for question in wide_questions(wide_scene(rng), rng):
            if question.short in ("Yes", "No"):
                said.setdefault(question.kind, []).append(question.short)
    shares = {kind: answers.count("Yes") / len(answers) for kind, answers in said.items() if len(answers) > 100}
    assert shares.keys() >= {"existence", "relation", "number", "color", "shape"}
    assert all(0.35 < share < 0.65 for share in shares.values()), shares


def test_no_turn_tells_what_a_later_one_asks():
    """Or the later one is answered from words: of texts, of colours and shapes, of which of two is where."""
    read = looked = 0
    for seed in range(500):
        rng = random.Random(f"rows-{seed}")
        scene = wide_scene(rng)
        row = wide_row(scene, "a.jpg", rng) or {"conversations": []}
        values = [turn["value"].replace("<image>\n", "") for turn in row["conversations"]]
        known, pairs = set(), set()
        for number, (question, answer) in enumerate(zip(values[::2], values[1::2], strict=True)):
            before = " ".join(values[: 2 * number])
            for written in all_written(scene):
                # Numbers of one digit are counts, too, and some words belong to questions.
                two_digits = written.text.isdigit() and len(written.text) > 1
                if two_digits and answer.rstrip(".").split(" ")[-1] == written.text:
                    assert not re.search(rf"\b{written.text}\b", before), values
                    read += 1
            _, things = without_names(scene, plain(question.partition("\n")[0]))
            names = {re.split(r" (?:is|are) ", answer)[-1].rstrip(".").removeprefix("a ").removeprefix("an ")}
            if len(things) == 1 and names & {*COLORS, *SHAPES}:
                assert id(things[0]) not in known and things[0].name not in before.lower(), values
                known.add(id(things[0]))
                looked += 1
            if len(things) == 2 and not re.search("bigger|smaller|larger|greater", question.lower()):
                pair = frozenset(map(id, things))
                assert pair not in pairs, values
                pairs.add(pair)
    assert read > 20 and looked > 80


WORDS = dict.fromkeys(
    "thing thing_alone things thing_cap the the_cap bare one one_cap other side choice more color".split(), "red star"
)
WORDS |= dict.fromkeys("shape number kind kinds many text which where noun line said".split(), "word")
GRAMMARS = {f"wordings {kind}": text for kind, text in rewording.GRAMMARS.items()}
GRAMMARS |= {
    f"{module.__name__.rpartition('.')[2]} {name}": text
    for module in (ends_wordings, several_texts_wordings)
    for name, text in vars(module).items()
    if name.isupper() and isinstance(text, str) and "\n" not in text and "{" in text
}
GRAMMARS |= {f"ends {kind}": text for kind, text in ends_wordings.NAMES.items()}


@pytest.mark.parametrize("name", GRAMMARS)
def test_every_grammar_expands_to_a_sentence(name):
    found = {rewording.said(GRAMMARS[name], random.Random(seed), **WORDS) for seed in range(150)}
    assert len(found) > 8
    for text in found:
        assert not re.search(r"[\[\]{}|<>]|  |\s[?.,:]|\?\?|^\W|\bNone\b", text.strip()), text


def test_questions_of_scenes_are_tidy(asked):
    for _, questions in asked:
        for question in questions:
            for text in (question.text, question.long):
                assert not re.search(r"[\[\]{}|<>]|  |\s[?.,:]|\?\?", text), text


def test_rows_are_what_training_takes():
    """The template accepts every row; the same seed gives the same row."""
    rows = []
    for seed in range(150):
        rng = random.Random(seed)
        rows.append(wide_row(wide_scene(rng), "a.jpg", rng))
    assert Survey.of([row for row in rows if row], form_of(TEMPLATES["v1"]), True).malformed == {}
    again = random.Random(0)
    assert wide_row(wide_scene(again), "a.jpg", again) == rows[0]


class InTurn:
    """As an executor, in this process."""

    map = staticmethod(map)


def test_seventy_rows_of_a_hundred_are_wide_and_all_are_mixed(tmp_path):
    make_data.write_wide(InTurn(), tmp_path, images=5, wide=56)
    rows = json.loads((tmp_path / "wide.json").read_text())
    wide = [row["image"].startswith("images/wide/") for row in rows]
    assert len(rows) == 80 and sum(wide) == 56  # 40,000 wide pictures make 57,143 rows
    assert 15 < sum(wide[:40]) < 40 and len({row["id"] for row in rows}) == 80
    assert all((tmp_path / row["image"]).is_file() for row, drawn in zip(rows, wide, strict=True) if drawn)
    assert {row["image"] for row, drawn in zip(rows, wide, strict=True) if not drawn} == {
        f"images/train/000/{i:06d}.jpg" for i in range(5)
    }
    talks = [json.dumps(row["conversations"]) for row, drawn in zip(rows, wide, strict=True) if not drawn]
    assert len(set(talks)) == len(talks)  # about the same pictures, but in other words


def scene(*contents: Thing | Text) -> Scene:
    things = [it for it in contents if isinstance(it, Thing)]
    return Scene(1, 1, "white", "plain", things, [it for it in contents if isinstance(it, Text)])


def test_beside_names_no_text_where_there_is_one_on_either_side():
    star, left, right = Thing("star", "red", 0.5, 0.5, 0.1), Text("12", "blue", 0.25, 0.5, 0.1), None
    assert things_at(scene(star, left), writings(scene(star, left))[0]) == [("left", "star")]
    right = Text("47", "green", 0.75, 0.5, 0.1)
    both = scene(star, left, right)
    assert all(not things_at(both, written) for written in writings(both))


def test_under_names_the_nearest_text():
    """The second number below a square was taken for the one under it, because the two are close to each other."""
    square, near, far = Thing("square", "red", 0.28, 0.26, 0.09), ("25", 0.46, 0.13), ("7", 0.66, 0.15)
    both = scene(square, *(Text(text, "brown", 0.28, y, height) for text, y, height in (near, far)))
    assert [things_at(both, written) for written in writings(both)] == [[], []]


def test_texts_that_rise_steeply_have_no_order():
    def order(y: float):
        return in_order(writings(scene(Text("51", "gray", 0.43, 0.5, 0.12), Text("78", "pink", 0.7, y, 0.14))))

    assert [w.text for w in order(0.5)] == [w.text for w in order(0.4)] == ["51", "78"]
    assert order(0.28) is None and [w.text for w in order(0.9)] == ["51", "78"]


def test_a_place_in_a_row_counts_shapes_where_texts_stand_in_it():
    row = [Thing("star", color, 0.1 + 0.25 * i, 0.5, 0.08) for i, color in enumerate(("red", "green", "blue"))]
    words = [
        q.text.lower()
        for seed in range(300)
        for q in ends(scene(*row, Text("5", "red", 0.9, 0.5, 0.1)), random.Random(seed))
    ]
    named = [text for text in words if re.search("first|second|third", text)]
    assert len(named) > 100 and all(re.search(r"(?:first|second|third) shape", text) for text in named)


def test_a_red_number_is_no_red_thing():
    two = scene(
        Thing("star", "red", 0.3, 0.3, 0.1), Thing("circle", "red", 0.7, 0.3, 0.1), Text("5", "red", 0.5, 0.8, 0.2)
    )
    asked = [q for seed in range(150) for q in wide_questions(two, random.Random(seed)) if q.kind == "count"]
    assert not any(re.search("red (?:things|objects|figures)", q.text.lower()) for q in asked)
    assert any("red shapes" in q.text.lower() for q in asked)


def test_a_text_is_asked_for_by_what_it_is():
    """Nobody asks for the digits of a word."""
    words = scene(Text("stop", "blue", 0.3, 0.3, 0.2), Text("go", "green", 0.7, 0.7, 0.2))
    said = [
        q.text.lower() for seed in range(200) for q in several_texts(words, random.Random(seed)) if q.kind == "word"
    ]
    assert len(said) > 300 and not any("digits" in text for text in said)
