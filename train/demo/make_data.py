"""Writes the demo's data: images and LLaVA-style JSON for every stage.

python train/demo/make_data.py --out data/demo
python train/demo/make_data.py --out data/demo-small --images 500 --texts 2000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from mobilevlm.commands import run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.train.demo import conversations, lessons
from mobilevlm.train.demo.version import generator
from mobilevlm.train.demo.wide_conversations import wide_row
from mobilevlm.train.demo.world import facts
from mobilevlm.train.demo.world.brush import Region
from mobilevlm.train.demo.world.draw import draw_scene
from mobilevlm.train.demo.world.scenes import sample_scene
from mobilevlm.train.demo.world.wide_scenes import wide_scene

EDGES = (144, 192, 288)  # in pixels; the first is what the demo's tower sees
WIDE_EDGES = (144, 192, 224, 288, 336)
USUAL = 3 / 7  # rows about usual images for each wide one: of all rows of the last stage they are 30 %
CHUNK = 250
# Images and texts are of different scenes; `judge` takes its own, seen in no stage.
SEEDS: dict[str, int | str]
SEEDS = {"images": 0, "texts": 1, "talks": 2, "lessons": 3, "wide": "wide", "wide talks": "wide-talks"}


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="make_data.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--out", required=True, metavar="DIR", help="where to write; what is there already is kept")
    self.add_argument("--images", type=int, default=80_000, help="training images (default: %(default)s)")
    self.add_argument("--texts", type=int, default=60_000, help="texts without an image (default: %(default)s)")
    self.add_argument("--wide", type=int, default=40_000, help="wide images (default: %(default)s)")
    return self


def _make(args: argparse.Namespace) -> None:
    if min(args.images, args.texts, args.wide) < 1:
        raise UserError(
            f"--images {args.images}, --texts {args.texts} and --wide {args.wide}: at least 1 of each is needed"
        )
    make_data(user_path(args.out), args.images, args.texts, args.wide)


def make_data(out: Path, images: int, texts: int, wide: int) -> None:
    """Writes `images/` and the JSON of every stage; a finished directory of the same sizes is kept as it is.

    Args:
        out: directory of the data.
        images: number of training images of usual scenes.
        texts: number of texts, and of conversations without an image.
        wide: number of training images of wide scenes.

    Raises:
        UserError: a finished directory has other sizes, or was made by another version of this generator.
    """
    sizes = {"images": images, "texts": texts, "wide": wide, "edges": list(EDGES), "generator": generator()}
    done = out / "sizes.json"
    if done.is_file():
        if json.loads(done.read_text()) != sizes:
            raise UserError(
                f"{out} holds demo data of other sizes or of another version ({done.read_text().strip()}, wanted "
                f"{json.dumps(sizes)}): remove it first"
            )
        return
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        _write_rows(out / "captions.json", _captions(pool, out, images))
        write_conversations(pool, out, images)
        _write_rows(out / "lessons.json", _rows(pool, _lesson_chunk, images))
        write_wide(pool, out, images, wide)
        written = [row for chunk in pool.map(_text_chunk, range(0, texts, CHUNK)) for row in chunk][:texts]
    (out / "text.jsonl").write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in written))
    _write_rows(out / "text_conversations.json", [row["talk"] for row in written])
    done.write_text(json.dumps(sizes) + "\n")


def _write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text(json.dumps([{"id": f"{path.stem}-{i}"} | row for i, row in enumerate(rows)], indent=0) + "\n")


def write_conversations(pool: ProcessPoolExecutor, out: Path, images: int) -> None:
    """Writes `conversations.json`, which does not depend on how the scenes were drawn.

    Args:
        pool: processes that make the rows.
        out: directory of the data.
        images: number of rows, one for each training image.
    """
    _write_rows(out / "conversations.json", _rows(pool, _talk_chunk, images))


def write_wide(pool: ProcessPoolExecutor, out: Path, images: int, wide: int) -> None:
    """Writes the images of wide scenes, and `wide.json`: rows about them, mixed with new rows about usual images.

    Args:
        pool: processes that draw.
        out: directory of the data.
        images: number of images of usual scenes, which the new rows are about.
        wide: number of images of wide scenes.
    """
    starts = range(0, wide, CHUNK)
    jobs = pool.map(_wide_chunk, [out] * len(starts), starts, [wide] * len(starts))
    rows = [row for chunk in jobs for row in chunk]
    count = round(USUAL * len(rows))
    starts = range(0, count, CHUNK)
    jobs = pool.map(_usual_chunk, starts, [count] * len(starts), [images] * len(starts))
    rows += [row for chunk in jobs for row in chunk]
    random.Random(SEEDS["wide"]).shuffle(rows)
    _write_rows(out / "wide.json", rows)


def _wide_chunk(out: Path, start: int, wide: int) -> list[dict]:
    """Draws wide scenes, and returns a row for each that anything can be asked about."""
    rows = []
    for index in range(start, min(start + CHUNK, wide)):
        rng, name = random.Random(f"{SEEDS['wide']}-{index}"), _image_name(index, "wide")
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        scene = wide_scene(rng)
        draw_scene(scene, rng, rng.choice(WIDE_EDGES)).save(out / name, quality=95, subsampling=0)
        rows.append(wide_row(scene, name, rng))
    return [row for row in rows if row]


def _usual_chunk(start: int, count: int, images: int) -> list[dict]:
    """New rows about usual images, from the first image again where there are too few."""
    rows = []
    for index in range(start, min(start + CHUNK, count)):
        image = index % images
        scene = sample_scene(random.Random(f"{SEEDS['images']}-{image}"))
        rng = random.Random(f"{SEEDS['wide talks']}-{index}")
        rows.append(conversations.conversation_row(scene, _image_name(image), rng))
    return rows


def _rows(pool: ProcessPoolExecutor, chunk: Callable[[int, int], list[dict]], images: int) -> list[dict]:
    starts = range(0, images, CHUNK)
    return [row for rows in pool.map(chunk, starts, [images] * len(starts)) for row in rows]


def _talk_chunk(start: int, images: int) -> list[dict]:
    rows = []
    for index in range(start, min(start + CHUNK, images)):
        scene = sample_scene(random.Random(f"{SEEDS['images']}-{index}"))
        rng = random.Random(f"{SEEDS['talks']}-{index}")
        rows.append(conversations.conversation_row(scene, _image_name(index), rng))
    return rows


def _lesson_chunk(start: int, images: int) -> list[dict]:
    rows = []
    for index in range(start, min(start + CHUNK, images)):
        scene = sample_scene(random.Random(f"{SEEDS['images']}-{index}"))
        rng = random.Random(f"{SEEDS['lessons']}-{index}")
        given = (lesson(scene, _image_name(index), rng) for lesson in (lessons.sides_row, lessons.writing_row))
        rows += [row for row in given if row]
    return rows


def _captions(pool: ProcessPoolExecutor, out: Path, images: int) -> list[dict]:
    from tqdm import tqdm

    starts = range(0, images, CHUNK)
    jobs = pool.map(_image_chunk, [out] * len(starts), starts, [images] * len(starts))
    return [row for chunk in tqdm(jobs, total=len(starts), desc="images", unit=f"x{CHUNK}") for row in chunk]


def _image_name(index: int, folder: str = "train") -> str:
    return f"images/{folder}/{index // 1000:03d}/{index:06d}.jpg"


def _image_chunk(out: Path, start: int, images: int) -> list[dict]:
    """Draws usual scenes, and returns a row with caption and regions for each."""
    (out / _image_name(start)).parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(start, min(start + CHUNK, images)):
        rng = random.Random(f"{SEEDS['images']}-{index}")
        scene, name = sample_scene(rng), _image_name(index)
        regions: list[Region] = []
        draw_scene(scene, rng, rng.choice(EDGES), regions).save(out / name, quality=95, subsampling=0)
        rows.append(conversations.caption_row(scene, name, rng) | {"regions": regions})
    return rows


def _text_chunk(start: int) -> list[dict]:
    """Text for language pre-training and a conversation, for scenes that are described and not drawn."""
    rows = []
    for index in range(start, start + CHUNK):
        rng = random.Random(f"{SEEDS['texts']}-{index}")
        scene = sample_scene(rng)
        talk = conversations.text_row(scene, rng)
        turns = [turn["value"] for turn in talk["conversations"]]
        text = "\n".join([*turns, facts.caption(scene, rng, most=20)] if rng.random() < 0.6 else turns)
        rows.append({"text": text, "talk": talk})
    return rows


def main() -> None:
    """Entry point of the command."""
    run_command(parser(), _make)


if __name__ == "__main__":
    main()
