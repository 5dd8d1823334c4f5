"""Trains a vision tower from nothing on images with captions, CLIP-style.

python train/vision_pretrain.py --recipe clip_pretrain --size mobilevlm_v2_demo --tokenizer DIR
    --data captions.json --images DIR --out TOWER_DIR

The tower is written in CLIP's layout (config.json, preprocessor_config.json, model.safetensors): what
`mm_vision_tower` of a MobileVLM may name. Run again after an interruption, it goes on from its newest checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from mobilevlm.checkpoint.config import KNOWN_TOWERS, VisionConfig
from mobilevlm.commands import command, run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.presets import PRESETS
from mobilevlm.train.launch import end_process, start, train_and_save
from mobilevlm.train.recipe import Recipe, add_recipe_options, recipe_from_args

if TYPE_CHECKING:
    from mobilevlm.train.clip import ImageTextModel
    from mobilevlm.train.regions import RegionVocabulary

SIZES = {name: preset.vision for name, preset in PRESETS.items() if preset.vision} | KNOWN_TOWERS


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="vision_pretrain.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--size", required=True, choices=SIZES, help="sizes of the tower: those of this model")
    self.add_argument("--tokenizer", required=True, metavar="DIR", help="holds the captions' tokenizer.model")
    self.add_argument("--data", required=True, metavar="FILE", help="LLaVA-style JSON: an image with caption per row")
    self.add_argument("--images", required=True, metavar="DIR", help="what the file names in --data are relative to")
    self.add_argument("--out", required=True, metavar="DIR", help="where the tower and its checkpoints go")
    add_recipe_options(self)
    return self


def _pretrain(args: argparse.Namespace) -> None:
    recipe = recipe_from_args(args)
    if recipe.trains != "tower":
        script = "language_pretrain.py" if recipe.trains == "llm" else "finetune.py"
        raise UserError(f"recipe {recipe.name} trains {recipe.trains}: use {command(f'train/{script}')}")
    vision_pretrain(recipe, args.size, *map(user_path, (args.tokenizer, args.data, args.images, args.out)))


def vision_pretrain(recipe: Recipe, size: str, tokenizer: Path, data: Path, images: Path, out: Path) -> None:
    """Trains a tower of these sizes and writes it to `out`.

    Args:
        recipe: the hyperparameters.
        size: name in `SIZES` of the tower's sizes.
        tokenizer: directory of the captions' `tokenizer.model`.
        data: LLaVA-style JSON with an image and its caption in each row.
        images: directory that the rows' file names are relative to.
        out: directory of the run and its result.

    Raises:
        UserError: files are missing or of another form, or the recipe does not fit (see `clip_arguments`).
    """
    inputs = {"tokenizer": tokenizer, "data": data, "images": images}
    if not start(out, recipe, {"size": size} | {name: str(path.resolve()) for name, path in inputs.items()}):
        return
    import torch

    from mobilevlm.image import ImageSpec
    from mobilevlm.text.tokenizer import Tokenizer
    from mobilevlm.train.captions import CaptionCollator, CaptionRows
    from mobilevlm.train.clip_trainer import ClipTrainer, clip_arguments
    from mobilevlm.train.cpu import prepare_cpu
    from mobilevlm.train.data import read_rows
    from mobilevlm.train.regions import RegionVocabulary
    from mobilevlm.train.special_ids import special_id

    vision, words = SIZES[size], Tokenizer(tokenizer)
    spec = ImageSpec(vision.image_size, vision.image_mean, vision.image_std, recipe.image_aspect_ratio)
    listed, grid = read_rows(data), vision.image_size // vision.patch_size
    regions = RegionVocabulary.of(listed, grid) if recipe.region_loss_weight else None
    rows = CaptionRows(listed, words, recipe.model_max_length, spec, images, regions, grid)
    arguments = clip_arguments(recipe, out)
    torch.manual_seed(recipe.seed)
    prepare_cpu()
    model = _new_model(recipe, vision, len(words), regions)
    collator = CaptionCollator(special_id(words, "pad"))
    trainer = ClipTrainer(recipe, vision, model=model, args=arguments, train_dataset=rows, data_collator=collator)
    train_and_save(trainer, out)


def _new_model(
    recipe: Recipe, vision: VisionConfig, vocab_size: int, regions: RegionVocabulary | None
) -> ImageTextModel:
    from mobilevlm.train.clip import ImageTextModel
    from mobilevlm.train.tower_start import start_mimetic

    limit, layer = recipe.model_max_length, recipe.mm_vision_select_layer
    model = ImageTextModel(vision, vocab_size, limit, layer, regions, recipe.region_loss_weight)
    if recipe.tower_start == "mimetic":
        start_mimetic(model.vision_model, vision)
    return model


def main() -> None:
    """Entry point of the command."""
    run_command(parser(), _pretrain)
    end_process()


if __name__ == "__main__":
    main()
