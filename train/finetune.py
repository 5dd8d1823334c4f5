"""Trains a projector, a language model with or without vision, or a LoRA, by a recipe.

python train/finetune.py --recipe v2_stage1 --model MOBILELLAMA --vision-tower CLIP --data FILE --images DIR --out DIR
python train/finetune.py --recipe v2_stage2 --model STAGE1_DIR --data FILE --images DIR --out DIR
python train/finetune.py --recipe v2_stage2 ... --learning-rate 1e-5     any hyperparameter is a flag
accelerate launch train/finetune.py --recipe v2_stage2 ...               several GPUs or machines
torchrun --nproc-per-node 2 train/finetune.py ... --parallel none        several processes without a GPU, or fsdp

Started again with the same command it goes on from its newest checkpoint, whatever ended it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import importlib.util
from typing import Any

from mobilevlm.checkpoint.config_types import read_json
from mobilevlm.commands import command, run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.rows.rules import form_of
from mobilevlm.train.arguments import training_arguments
from mobilevlm.train.launch import end_process, start, train_and_save
from mobilevlm.train.recipe import Recipe, add_recipe_options, recipe_from_args
from mobilevlm.train.survey import Survey


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="finetune.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--model", required=True, metavar="DIR_OR_HUB_ID", help="MobileLLaMA or MobileVLM to start from")
    self.add_argument("--vision-tower", metavar="DIR_OR_HUB_ID", help="CLIP to use; without, the start's own")
    self.add_argument("--projector", type=user_path, metavar="FILE", help="mm_projector.bin of stage 1 to start from")
    self.add_argument("--data", type=user_path, required=True, metavar="FILE", help="rows, LLaVA-style .json or .jsonl")
    self.add_argument("--images", type=user_path, metavar="DIR", help="what the rows' image names are relative to")
    self.add_argument("--out", type=user_path, required=True, metavar="DIR", help="where checkpoints and result go")
    add_recipe_options(self)
    return self


def finetune(args: argparse.Namespace) -> None:
    """Checks everything that can be checked cheaply, then trains.

    Raises:
        UserError: something does not fit; the message says what to change.
    """
    recipe = recipe_from_args(args)
    check_paths(args, recipe)
    names = ("model", "vision_tower", "projector", "data", "images")
    given = {name: getattr(args, name) for name in names}
    if start(args.out, recipe, {name: None if text is None else _absolute(text) for name, text in given.items()}):
        train(args, recipe)


def check_paths(args: argparse.Namespace, recipe: Recipe) -> None:
    """Refuses what cannot work, before anything heavy is imported.

    Args:
        args: the command line.
        recipe: the recipe with the command line's overrides.

    Raises:
        UserError: a file is missing, a package is missing, or recipe and model do not belong together.
    """
    if recipe.trains == "tower":
        raise UserError(f"recipe {recipe.name} trains a vision tower: use {command('train/vision_pretrain.py')}")
    if recipe.trains == "lora" and importlib.util.find_spec("peft") is None:
        raise UserError("LoRA training needs PEFT: pip install peft")
    for name, is_there in (("data", Path.is_file), ("projector", Path.is_file), ("images", Path.is_dir)):
        path = getattr(args, name)
        if path is not None and not is_there(path):
            raise UserError(f"--{name} {path} does not exist")
    config = user_path(args.model) / "config.json"
    has_tower = bool(config.is_file() and read_json(config).get("mm_vision_tower"))
    if recipe.has_images and config.is_file() and not has_tower and not args.vision_tower:
        raise UserError(f"{args.model} has no vision tower, which recipe {recipe.name} needs: add --vision-tower DIR")
    if not recipe.has_images and (has_tower or args.vision_tower or args.projector):
        raise UserError(
            f"recipe {recipe.name} trains a language model without vision: give a MobileLLaMA as --model, and neither "
            "--vision-tower nor --projector"
        )


def _absolute(name: str | Path) -> str:
    """Absolute path of a file or directory; a hub id stays as it is."""
    path = user_path(name)
    return str(path.resolve() if path.exists() else name)


def config_changes(args: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """Changes that the recipe makes to the `config.json` of the model it starts from.

    Args:
        args: the command line.
        recipe: the recipe with the command line's overrides.

    Raises:
        UserError: neither the recipe nor the model names a projector.
    """
    if not recipe.has_images:
        return {}
    config = user_path(args.model) / "config.json"
    started = read_json(config) if config.is_file() else {}
    changes: dict[str, Any] = {
        "image_aspect_ratio": recipe.image_aspect_ratio,
        "mm_projector_lr": recipe.mm_projector_lr,
        "mm_vision_select_layer": recipe.mm_vision_select_layer,
    }
    if args.vision_tower:
        tower = user_path(args.vision_tower)
        changes["mm_vision_tower"] = str(tower.resolve()) if tower.is_dir() else args.vision_tower
        changes["mm_hidden_size"] = None  # taken from the new tower
    if recipe.mm_projector_type:
        changes["mm_projector_type"] = recipe.mm_projector_type
    if not started.get("mm_vision_tower"):
        changes |= {"mm_use_im_start_end": False, "mm_use_im_patch_token": False}
        if not recipe.mm_projector_type:
            raise UserError(f"recipe {recipe.name} names no projector, and {args.model} has none: --mm-projector-type")
    return changes


def train(args: argparse.Namespace, recipe: Recipe) -> None:
    """Loads the model, trains it, saves the result.

    Args:
        args: the command line, checked by `check_paths`.
        recipe: the recipe with the command line's overrides.

    Raises:
        UserError: the rows or the model's sizes do not fit the recipe.
    """
    import torch

    from mobilevlm.image import ImageSpec
    from mobilevlm.model.assemble import assemble
    from mobilevlm.text.templates import template
    from mobilevlm.train.cpu import length_step, prepare_cpu
    from mobilevlm.train.data import Collator, TrainingRows, read_rows
    from mobilevlm.train.special_ids import special_id
    from mobilevlm.train.trainer import MobileVLMTrainer, trainable

    arguments = training_arguments(recipe, args.out)
    rows, wording, longest = read_rows(args.data), template(recipe.template), recipe.model_max_length
    survey = Survey.of(rows, form_of(wording), recipe.has_images)
    if survey.with_image and args.images is None:
        raise UserError(f"{args.data} has rows with images: add --images, the directory their names are relative to")
    torch.manual_seed(recipe.seed)
    prepare_cpu()
    model = assemble(args.model, changes=config_changes(args, recipe), projector=args.projector)
    config = model.config.model_config
    if wording.begin or template(config.conv_mode).begin:
        raise UserError(
            f"{args.model} has conversations in the form {config.conv_mode!r}, the recipe {recipe.template!r}: only "
            "forms of LLaVA and MobileVLM can be masked; train this model with its authors' code, and export the result"
        )
    spec = ImageSpec.of(config) if config.vision else None
    start_end = config.vision is not None and config.mm_use_im_start_end
    data = TrainingRows(rows, model.tokenizer, wording, longest, spec, args.images, start_end, survey)
    check_length(recipe, config.max_position_embeddings)
    learner = trainable(model, recipe, _absolute(args.model))
    model.config.use_cache = False
    collator = Collator(special_id(model.tokenizer, "unk"), longest, length_step())
    trainer = MobileVLMTrainer(learner, recipe, arguments, data, collator)
    train_and_save(trainer, args.out)


def check_length(recipe: Recipe, positions: int) -> None:
    """Refuses a recipe whose texts are longer than the model has positions for.

    Args:
        recipe: gives `model_max_length`, in tokens.
        positions: the model's `max_position_embeddings`.

    Raises:
        UserError: naming both lengths.
    """
    if recipe.model_max_length > positions:
        raise UserError(
            f"model_max_length is {recipe.model_max_length}, but the model has {positions} positions: "
            f"add --model-max-length {positions}"
        )


def main() -> None:
    """Entry point of the command."""
    run_command(parser(), finetune)
    end_process()


if __name__ == "__main__":
    main()
