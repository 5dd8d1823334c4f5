"""What a watcher asks about, and which answers count: the gate on noisy frames, hysteresis, choices in free answers."""

import numpy as np
import pytest
from PIL import Image

from mobilevlm.errors import UserError
from mobilevlm.runtime.camera.answer import Answer, choices_of
from mobilevlm.runtime.camera.change_gate import ChangeGate
from mobilevlm.runtime.camera.frames import ArrayFrame
from mobilevlm.runtime.camera.hysteresis import Hysteresis
from mobilevlm.runtime.camera.watcher import Watcher

HEIGHT, WIDTH = 240, 320
YS, XS = np.mgrid[:HEIGHT, :WIDTH]
NOISES = np.random.default_rng(0).standard_normal((12, HEIGHT, WIDTH, 3), np.float32)


class Camera:
    """Noisy frames of a plain wall; `noise` may be an image of standard deviations."""

    def __init__(self, noise=3.0):
        self.wall, self.noise = np.full((HEIGHT, WIDTH, 3), 120, np.float32), noise
        self.rng, self.count, self.drift = np.random.default_rng(1), 0, 0.0

    def put(self, x, y, radius, color):
        self.wall[(XS - x) ** 2 + (YS - y) ** 2 < radius**2] = color

    def frame(self):
        noise = np.roll(self.rng.choice(NOISES), self.rng.integers(WIDTH), axis=1)
        seen = self.wall + np.float32(self.drift) + noise * np.float32(self.noise)
        self.count += 1
        return ArrayFrame(np.clip(seen, 0, 255).astype(np.uint8), self.count, self.count / 10)


def look(gate, camera, count):
    """Number of the frames that the gate lets pass."""
    passed = 0
    for _ in range(count):
        if gate.has_changed(camera.frame()):
            gate.ask_about()
            passed += 1
    return passed


def test_noise_and_drift_are_no_change():
    gate, camera = ChangeGate(), Camera()
    assert look(gate, camera, 1) == 1
    for camera.drift in np.linspace(0, 9, 200):
        assert look(gate, camera, 1) == 0


def test_a_lamp_is_a_change():
    """A drift is taken off only as far as it is mild: a wall that gets much darker is asked about."""
    gate, camera = ChangeGate(), Camera()
    look(gate, camera, 20)
    camera.drift = -40
    assert look(gate, camera, 5) == 1


@pytest.mark.parametrize("place", [(8, 8), (163, 121), (312, 100), (55, 232)])
@pytest.mark.parametrize(("radius", "contrast"), [(6, 30), (12, 15)])
def test_small_and_faint_things_are_changes(place, radius, contrast):
    gate, camera = ChangeGate(), Camera()
    look(gate, camera, 15)
    camera.put(*place, radius, 120.0 + contrast)
    assert look(gate, camera, 3) >= 1


def test_a_colour_of_the_same_brightness_is_a_change():
    """Red and green of one luma: a gray thumbnail has the same values."""
    gate, camera = ChangeGate(), Camera()
    red, green = (200, 0, 0), (0, 102, 0)
    luma = [np.dot(color, (0.299, 0.587, 0.114)) for color in (red, green)]
    assert abs(luma[0] - luma[1]) < 0.2
    camera.put(100, 100, 20, red)
    look(gate, camera, 15)
    camera.put(100, 100, 20, green)
    assert look(gate, camera, 2) == 1


def test_a_noisy_corner_is_learned_and_hides_nothing_elsewhere():
    noise = np.full((HEIGHT, WIDTH, 1), 3.0)
    noise[:80, :100] = 90.0  # an untuned television
    gate, camera = ChangeGate(), Camera(noise)
    look(gate, camera, 60)
    assert look(gate, camera, 200) <= 4
    camera.put(250, 180, 10, 160.0)
    assert look(gate, camera, 2) == 1


def test_a_slow_change_is_noticed_by_its_sum():
    """Every frame is compared with the one asked about, not with the one before."""
    gate, camera = ChangeGate(), Camera()
    look(gate, camera, 15)
    passed = 0
    for step in range(100):
        camera.put(160, 120, 30, 120.0 + step * 0.4)
        passed += look(gate, camera, 1)
    assert 2 <= passed <= 6


# --- hysteresis


def pushed(hysteresis, texts):
    return [answer for answer in texts if hysteresis.push(Answer(answer))]


def test_a_new_answer_counts_after_so_many_in_a_row():
    assert pushed(Hysteresis(1), ["no", "no", "yes", "no"]) == ["no", "yes", "no"]
    hysteresis = Hysteresis(3)
    assert pushed(hysteresis, ["no", "no"]) == [] and hysteresis.current is None and hysteresis.is_undecided
    assert pushed(hysteresis, ["no"]) == ["no"] and not hysteresis.is_undecided
    assert pushed(hysteresis, ["yes", "yes", "no", "yes", "yes"]) == []
    assert pushed(hysteresis, ["yes"]) == ["yes"] and hysteresis.current == "yes"


def test_abstaining_and_unclear_answers_do_not_count():
    hysteresis = Hysteresis(2, margin=0.5)
    clear, unclear = {"yes": 0.9, "no": 0.1}, {"yes": 0.7, "no": 0.3}
    said = [Answer("yes", clear), Answer("no", unclear), Answer(None), Answer("yes", clear)]
    assert [hysteresis.push(answer) for answer in said] == [False, False, False, True]
    assert Answer("yes").margin == 1.0 and Answer("yes", clear).margin == pytest.approx(0.8)


@pytest.mark.parametrize(("options", "said"), [((0,), "--hold is 0"), ((1, 1.0), "--margin is 1.0")])
def test_hysteresis_out_of_range(options, said):
    with pytest.raises(UserError, match=said):
        Hysteresis(*options)


# --- answers


def test_choices_are_two_or_more_different_ones():
    assert choices_of(None) == [] and choices_of("yes, no") == ["yes", "no"]
    for wrong in ("yes", "yes,", "yes,Yes", ""):
        with pytest.raises(UserError, match="two or more different answers"):
            choices_of(wrong)


# --- a watcher


def watcher(ask, **options):
    settings = {"gate": ChangeGate(), "hysteresis": Hysteresis()} | options
    return Watcher(ask, "Is it red?", **settings)


def is_red(image: Image.Image) -> Answer:
    red, green, _ = np.asarray(image)[120, 160]
    return Answer("yes" if red > green + 60 else "no")


def test_a_watcher_asks_when_something_changed_and_tells_when_the_answer_did():
    camera, events = Camera(), []
    made = watcher(is_red, sinks=[events.append])
    for number in range(90):
        if number == 30:
            camera.put(160, 120, 40, (250, 20, 20))
        if number == 60:
            camera.put(40, 40, 20, (20, 20, 250))  # a change of something else
        made.see(camera.frame())
    assert [(event.answer, event.previous, event.frame) for event in events] == [("no", None, 1), ("yes", "no", 31)]
    assert (made.counts.seen, made.counts.asked, made.counts.events) == (90, 3, 2)


def test_after_a_change_it_asks_until_the_answer_holds():
    camera = Camera()
    made = watcher(is_red, hysteresis=Hysteresis(3))
    events = [event for _ in range(20) if (event := made.see(camera.frame()))]
    assert [event.frame for event in events] == [3] and made.counts.asked == 3
    camera.put(160, 120, 40, (250, 20, 20))
    events = [event for _ in range(20) if (event := made.see(camera.frame()))]
    assert [event.frame for event in events] == [23] and made.counts.asked == 6


def test_it_gives_up_on_a_scene_that_nobody_can_tell():
    """Three further frames for each answer that has to agree, then none until something changes."""
    camera = Camera()
    made = watcher(lambda image: Answer(None), hysteresis=Hysteresis(2))
    assert not any(made.see(camera.frame()) for _ in range(50))
    assert made.counts.asked == 1 + 3 * 2


def test_it_asks_after_some_time_though_nothing_changed():
    camera = Camera()
    made = watcher(is_red, at_least_every_s=2.0)
    for _ in range(65):  # 6.5 s
        made.see(camera.frame())
    assert made.counts.asked == 4
    camera.count = 0  # a recording that begins anew
    made.see(camera.frame())
    assert made.counts.asked == 5
    with pytest.raises(UserError, match="--at-least-every is 0"):
        watcher(is_red, at_least_every_s=0)
