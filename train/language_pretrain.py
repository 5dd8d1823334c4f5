"""Pre-trains a MobileLLaMA from nothing on packed text.

python train/language_pretrain.py --recipe mobilellama_pretrain --size mobilellama_1.4b --tokenizer DIR
    --data part1.jsonl part2.jsonl --out DIR
accelerate launch train/language_pretrain.py ...      (several GPUs)

Texts are tokenised once, into OUT/tokens.bin. Run again after an interruption, it goes on from its newest checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.commands import command, run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.presets import PRESETS, text_only
from mobilevlm.train.launch import end_process, start, train_and_save
from mobilevlm.train.recipe import Recipe, add_recipe_options, recipe_from_args


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="language_pretrain.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--size", required=True, choices=PRESETS, help="sizes: those of this language model")
    self.add_argument("--tokenizer", required=True, metavar="DIR", help="holds tokenizer.model")
    self.add_argument("--data", required=True, nargs="+", metavar="FILE", help=".jsonl, .json or .txt, see texts.py")
    self.add_argument("--out", required=True, metavar="DIR", help="where the model and its checkpoints go")
    add_recipe_options(self)
    return self


def _pretrain(args: argparse.Namespace) -> None:
    recipe = recipe_from_args(args)
    if recipe.trains != "llm":
        script = "vision_pretrain.py" if recipe.trains == "tower" else "finetune.py"
        raise UserError(f"recipe {recipe.name} trains {recipe.trains}: use {command(f'train/{script}')}")
    files = [user_path(name) for name in args.data]
    language_pretrain(recipe, args.size, user_path(args.tokenizer), files, user_path(args.out))


def language_pretrain(recipe: Recipe, size_name: str, tokenizer: Path, files: Sequence[Path], out: Path) -> None:
    """Trains a language model of these sizes and writes it to `out`.

    Args:
        recipe: the hyperparameters.
        size_name: name in `PRESETS` of the model's sizes.
        tokenizer: directory of `tokenizer.model`.
        files: texts, see `texts.read_texts`.
        out: directory of the run and its result.

    Raises:
        UserError: files are missing or of another form, or hold too little text.
    """
    inputs = {"size": size_name, "tokenizer": str(tokenizer.resolve())}
    if not start(out, recipe, inputs | {"data": " ".join(str(file.resolve()) for file in files)}):
        return
    import torch

    from mobilevlm.text.tokenizer import Tokenizer
    from mobilevlm.train.arguments import training_arguments
    from mobilevlm.train.cpu import prepare_cpu
    from mobilevlm.train.data import Collator
    from mobilevlm.train.packing import PackedRows, pack
    from mobilevlm.train.special_ids import special_id
    from mobilevlm.train.trainer import MobileVLMTrainer

    words = Tokenizer(tokenizer)
    arguments = training_arguments(recipe, out)
    with arguments.main_process_first(desc="tokenising"):
        rows = PackedRows(pack(files, words, out), len(words), recipe.model_max_length)
    torch.manual_seed(recipe.seed)
    prepare_cpu()
    model = new_language_model(PRESETS[size_name], tokenizer, len(words))
    collator = Collator(special_id(words, "pad"), recipe.model_max_length)
    trainer = MobileVLMTrainer(model, recipe, arguments, rows, collator)
    train_and_save(trainer, out)


def new_language_model(size: ModelConfig, tokenizer: Path, vocab_size: int) -> Any:
    """Returns a MobileLLaMA with random weights, initialised as transformers initialises LLaMA.

    Args:
        size: configuration of a model; vision is left out.
        tokenizer: directory of the tokenizer that is saved with the model.
        vocab_size: rows of the embedding.
    """
    from mobilevlm.checkpoint.checkpoint import Checkpoint
    from mobilevlm.checkpoint.tensors import Tensors
    from mobilevlm.model.model import MobileVLM, MobileVLMConfig

    config = replace(text_only(size), vocab_size=vocab_size)
    model = MobileVLM(MobileVLMConfig.of(config))
    model.checkpoint = Checkpoint("new", config, Tensors({}), tokenizer)
    return model


def main() -> None:
    """Entry point of the command."""
    run_command(parser(), _pretrain)
    end_process()


if __name__ == "__main__":
    main()
