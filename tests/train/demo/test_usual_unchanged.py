"""The usual distribution stays what it was when the wide one came: calibration data and figures rest on it."""

import hashlib
import random

from mobilevlm.train.demo.conversations import conversation_row
from mobilevlm.train.demo.questions.usual import questions
from mobilevlm.train.demo.world.draw import draw_scene
from mobilevlm.train.demo.world.scenes import sample_scene

DIGEST = "f56c3208b80f567f139ce7601face095"


def test_the_same_seeds_give_the_same_scenes_questions_rows_and_pictures():
    """The digest is of the sources as they were before `wide_scene`."""
    digest = hashlib.sha256()
    for seed in range(60):
        rng = random.Random(f"unchanged-{seed}")
        scene = sample_scene(rng)
        things = [(t.shape, t.color, t.x, t.y, t.radius, t.text) for t in scene.things]
        texts = [(t.text, t.color, t.x, t.y, t.height) for t in scene.texts]
        chart = scene.chart and (scene.chart.kind, scene.chart.colors, scene.chart.values)
        said = [(q.kind, str(q.text), q.short, q.long, q.wrong, q.about) for q in questions(scene, rng)]
        row = conversation_row(scene, "a.jpg", rng)
        digest.update(repr((scene.width, scene.background, scene.texture, things, texts, chart, said, row)).encode())
        if seed % 6 == 0:
            digest.update(draw_scene(scene, rng, 144).tobytes())
    assert digest.hexdigest()[:32] == DIGEST, digest.hexdigest()[:32]
