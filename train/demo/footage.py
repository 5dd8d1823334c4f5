"""Makes a video of a scene as a fixed camera sees it, with changes at known times, to judge `runtime/watch.py` by.

    python train/demo/footage.py --out artifacts/clip.mp4 --seconds 600

A circle comes and goes; other shapes come, go, move and change their colour, which does not change the answer to "Is
there a circle?". Between the changes only the sensor's noise and the brightness move. Beside the video lies a JSON file
that says when the answer changes.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import json
import math
import random
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass

import numpy as np

from mobilevlm.commands import run_command
from mobilevlm.errors import UserError
from mobilevlm.train.demo.world.draw import draw_scene
from mobilevlm.train.demo.world.looks import Look
from mobilevlm.train.demo.world.scenes import Scene, Thing, contrasting

QUESTION, TARGET = "Is there a circle?", "circle"
OTHERS = ("square", "triangle", "star", "rectangle", "diamond", "heart", "cross")  # nobody takes them for a circle
WIDTH, HEIGHT = 320, 240
NOISE, DRIFT = 3.0, 8.0  # standard deviation of a pixel, and amplitude of the brightness, of 255
_DRIFT_PERIOD_S = 47.0
# Places of things on a scene of 4/3 by 1, which leave room for moving about.
_PLACES = ((0.25, 0.28), (0.67, 0.28), (1.08, 0.28), (0.25, 0.72), (0.67, 0.72), (1.08, 0.72))
_LOOK = Look("filled", 0.1, smooth=True, aged=False, tilted=False, alike=True)


@dataclass(frozen=True)
class Change:
    """A change of the scene.

    Attributes:
        time_s: when, from the beginning; that of the first scene is 0.
        what: in words.
        answer: the true answer to `QUESTION` from then on.
        scene: what is seen from then on.
    """

    time_s: float
    what: str
    answer: str
    scene: Scene


def changes(seconds: float, rng: random.Random) -> list[Change]:
    """Writes the script of a video: a change every 6 to 24 seconds, every second one of the circle.

    Args:
        seconds: length of the video.
        rng: source of randomness.
    """
    scene = Scene(4 / 3, 1, rng.choice(["white", "black", "gray"]), "plain", look=_LOOK)
    for _ in range(2):
        _come(scene, rng, rng.choice(OTHERS))
    found = [Change(0.0, "the first scene", _answer(scene), scene)]
    time_s = rng.uniform(6, 24)
    while time_s < seconds - 3:
        scene = deepcopy(scene)
        what = _circle(scene, rng) if len(found) % 2 else _other(scene, rng)
        found.append(Change(round(time_s, 3), what, _answer(scene), scene))
        time_s += rng.uniform(6, 24)
    return found


def _answer(scene: Scene) -> str:
    return "yes" if any(thing.shape == TARGET for thing in scene.things) else "no"


def _come(scene: Scene, rng: random.Random, shape: str) -> str:
    taken = {(thing.x, thing.y) for thing in scene.things}
    x, y = rng.choice([place for place in _PLACES if place not in taken])
    scene.things.append(Thing(shape, contrasting(scene.background, rng), x, y, rng.uniform(0.11, 0.17)))
    return f"a {scene.things[-1].name} comes"


def _circle(scene: Scene, rng: random.Random) -> str:
    """The circle comes or goes."""
    circle = next((thing for thing in scene.things if thing.shape == TARGET), None)
    if circle is None:
        return _come(scene, rng, TARGET)
    scene.things.remove(circle)
    return f"the {circle.name} goes"


def _other(scene: Scene, rng: random.Random) -> str:
    """Another shape comes, goes, moves, or gets another colour."""
    others = [thing for thing in scene.things if thing.shape != TARGET]
    if len(others) < 2 or len(others) < 4 and rng.random() < 0.25:
        return _come(scene, rng, rng.choice(OTHERS))
    thing = rng.choice(others)
    how = rng.choice(["goes", "moves", "gets another colour"])
    what = f"the {thing.name} {how}"
    if how == "goes":
        scene.things.remove(thing)
    elif how == "moves":
        taken = {(one.x, one.y) for one in scene.things}
        thing.x, thing.y = rng.choice([place for place in _PLACES if place not in taken])
    else:
        before = thing.color
        thing.color = next(color for color in iter(lambda: contrasting(scene.background, rng), None) if color != before)
    return what


def frames(script: list[Change], seconds: float, fps: int, seed: int) -> Iterator[np.ndarray]:
    """Draws the frames of a video, (HEIGHT, WIDTH, 3) uint8 each.

    Args:
        script: of `changes`.
        seconds: length of the video.
        fps: frames a second.
        seed: of the drawing and of the noise.
    """
    noise, shown = np.random.default_rng(seed), -1
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for number in range(round(seconds * fps)):
        time_s = number / fps
        now = max(index for index, change in enumerate(script) if change.time_s <= time_s)
        if now != shown:  # the same dice for every drawing: what has not changed looks as before
            drawn = draw_scene(script[now].scene, random.Random(seed), WIDTH)
            pixels, shown = np.asarray(drawn, np.float32), now
        drift = DRIFT * math.sin(2 * math.pi * time_s / _DRIFT_PERIOD_S)
        seen = pixels * (1 + drift / 255) + drift / 2 + noise.normal(0, NOISE, pixels.shape).astype(np.float32)
        yield np.clip(seen, 0, 255).astype(np.uint8)


def write_video(path: Path, images: Iterable[np.ndarray], fps: int) -> None:
    """Encodes images as H.264.

    Args:
        path: file to write; its ending says the container.
        images: (H, W, 3) uint8 each, all of one size.
        fps: frames a second.

    Raises:
        UserError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError("video is written by PyAV, which is not installed: pip install 'mobilevlm[camera]'") from None
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "23", "preset": "veryfast"})
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(images):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def truth_of(script: list[Change], seconds: float, fps: int) -> dict[str, object]:
    """What the JSON file beside a video says.

    Args:
        script: of `changes`.
        seconds: length of the video.
        fps: frames a second.
    """
    told = [{key: value for key, value in asdict(change).items() if key != "scene"} for change in script]
    return {"question": QUESTION, "choices": ["yes", "no"], "seconds": seconds, "fps": fps, "changes": told}


def make(out: Path, seconds: float, fps: int, seed: int) -> dict[str, object]:
    """Writes a video and the JSON file beside it; returns what that says.

    Args:
        out: the video.
        seconds: its length.
        fps: frames a second.
        seed: of script, drawing and noise.
    """
    script = changes(seconds, random.Random(seed))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_video(out, frames(script, seconds, fps, seed), fps)
    truth = truth_of(script, seconds, fps)
    out.with_suffix(".json").write_text(json.dumps(truth, indent=1), encoding="utf-8")
    return truth


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    self = argparse.ArgumentParser(
        prog="footage.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--out", type=Path, required=True, metavar="FILE", help="the video, such as clip.mp4")
    self.add_argument("--seconds", type=float, default=600, help="its length (default: 600)")
    self.add_argument("--fps", type=int, default=10, help="frames a second (default: 10)")
    self.add_argument("--seed", type=int, default=1, help="another seed is another script (default: 1)")
    return self


def main() -> None:
    """Entry point."""
    run_command(parser(), lambda arguments: print_made(arguments))


def print_made(arguments: argparse.Namespace) -> None:
    """Makes the video and prints its script."""
    make(arguments.out, arguments.seconds, arguments.fps, arguments.seed)
    print(arguments.out.with_suffix(".json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
