"""Recipe: every hyperparameter of a run, read from one small JSON file, each of them a command-line flag.

A recipe file holds the fields of `Recipe` that differ from the defaults, `source` (where the values come from), and
perhaps `extends`, the recipe it changes. A new recipe is one new file in `recipes/`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mobilevlm.checkpoint.config_types import check_types, read_json
from mobilevlm.errors import UserError, user_path
from mobilevlm.text.templates import MORE_TEMPLATES, TEMPLATES

RECIPES = Path(__file__).parent / "recipes"
BESIDES = ("extends", "source")  # keys of a file that are not hyperparameters


def _setting(default: Any, help: str, choices: tuple[str, ...] | None = None, positive: bool = False) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "positive": positive})


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one run, named as in transformers' TrainingArguments and the original.

    Raises:
        UserError: a value is none of a field's choices, or is not positive where it has to be.
    """

    name: str = field(metadata={"help": "how messages and checkpoints call the recipe", "choices": None})
    trains: str = _setting("projector+llm", "what learns", ("projector", "projector+llm", "lora", "llm", "tower"))
    # data
    template: str = _setting("v1", "wording of a conversation", (*TEMPLATES, *MORE_TEMPLATES))
    image_aspect_ratio: str = _setting("pad", "pad images to a square, or crop the centre", ("pad", "square"))
    model_max_length: int = _setting(2048, "longest text, in tokens, before images are put in", positive=True)
    group_by_modality_length: bool = _setting(False, "batches of like length, images and text apart")
    dataloader_num_workers: int = _setting(4, "processes that read images, for each training process")
    # model
    mm_projector_type: str | None = _setting(None, "projector to build where the start has none")
    mm_vision_select_layer: int = _setting(-2, "hidden state of the vision tower that the projector reads")
    region_loss_weight: float = _setting(0.0, "weight of what patches show beside what captions say, for towers")
    tower_start: str = _setting("clip", "how a tower starts that is trained from nothing", ("clip", "mimetic"))
    # optimisation
    optim: str = _setting("adamw", "AdamW for all, or Muon for the matrices inside of blocks", ("adamw", "muon"))
    learning_rate: float = _setting(2e-5, "peak learning rate")
    mm_projector_lr: float | None = _setting(None, "peak learning rate of the projector, where it has its own")
    weight_decay: float = _setting(0.0, "AdamW's weight decay, of matrices only")
    adam_beta1: float = _setting(0.9, "AdamW's first beta")
    adam_beta2: float = _setting(0.999, "AdamW's second beta")
    adam_epsilon: float = _setting(1e-8, "AdamW's epsilon")
    max_grad_norm: float = _setting(1.0, "gradients are clipped to this norm; 0 for no clipping")
    lr_scheduler_type: str = _setting("cosine", "learning rate schedule, by transformers' names")
    min_lr_rate: float | None = _setting(None, "last learning rate over the peak, for cosine_with_min_lr")
    warmup_ratio: float = _setting(0.03, "part of the steps in which the learning rate rises")
    warmup_steps: int = _setting(0, "the same as a number of steps; wins over warmup_ratio when above 0")
    num_train_epochs: float = _setting(1.0, "passes over the data")
    max_steps: int = _setting(-1, "stop after so many steps; -1: after num_train_epochs")
    global_batch_size: int = _setting(128, "samples per step, over all processes and accumulation", positive=True)
    per_device_train_batch_size: int = _setting(16, "samples a process takes at a time", positive=True)
    seed: int = _setting(42, "seed of everything random")
    # LoRA
    lora_r: int = _setting(128, "rank of the LoRA", positive=True)
    lora_alpha: int = _setting(256, "scale of the LoRA times its rank", positive=True)
    lora_dropout: float = _setting(0.05, "dropout in front of the LoRA")
    lora_bias: str = _setting("none", "biases that learn with a LoRA: MobileVLM's linears have none", ("none",))
    # precision, memory, processes
    bf16: bool = _setting(True, "compute in bfloat16 (autocast)")
    tf32: bool = _setting(True, "float32 products in TensorFloat-32, on GPUs that have it")
    gradient_checkpointing: bool = _setting(True, "compute activations twice instead of keeping them")
    parallel: str = _setting(
        "none", "how several processes share weights and optimiser", ("none", "zero2", "zero3", "fsdp")
    )
    # saving and reporting
    save_steps: int = _setting(24000, "a resumable checkpoint every so many steps", positive=True)
    save_total_limit: int = _setting(1, "resumable checkpoints to keep", positive=True)
    logging_steps: int = _setting(1, "steps between two lines of the loss curve", positive=True)
    report_to: str = _setting("none", "where the loss curve goes besides trainer_state.json", ("none", "tensorboard"))

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, choices = getattr(self, entry.name), entry.metadata["choices"]
            if choices and value not in choices:
                raise UserError(f"recipe {self.name}: {entry.name} is {value!r}; it can be {', '.join(choices)}")
            if entry.metadata.get("positive") and value < 1:
                raise UserError(f"recipe {self.name}: {entry.name} is {value}; at least 1 is needed")

    @property
    def has_images(self) -> bool:
        """Whether the model that is trained has vision."""
        return self.trains in ("projector", "projector+llm", "lora")

    def save(self, path: Path) -> None:
        """Writes every field, so that `load_recipe` reads the same recipe from the file."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(path.stem for path in RECIPES.glob("*.json"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Reads a recipe by name or from a file.

    Raises:
        UserError: there is none, or the file has unknown keys or wrong values; the message names file and key.
    """
    path = _find(name_or_path)
    values = _values(path, ())
    values.pop("source", None)
    return Recipe(**({"name": path.stem} | values))


def _find(name_or_path: str | Path) -> Path:
    named, path = RECIPES / f"{name_or_path}.json", user_path(name_or_path)
    if named.is_file():
        return named
    if path.suffix == ".json" and path.is_file():
        return path
    raise UserError(f"there is no recipe {name_or_path}; give a JSON file or one of {', '.join(recipe_names())}")


def _values(path: Path, through: tuple[Path, ...]) -> dict[str, Any]:
    """Values of a file and of those it extends."""
    if path in through:
        raise UserError(f"{path} extends itself, through {', '.join(item.name for item in through)}")
    raw = read_json(path)
    known = [entry.name for entry in fields(Recipe)]
    unknown = sorted(set(raw) - set(known) - set(BESIDES))
    if unknown:
        raise UserError(f"{path} has unknown keys: {', '.join(unknown)}. Known are {', '.join([*known, *BESIDES])}")
    check_types(Recipe, raw, str(path))
    nothing = [entry.name for entry in fields(Recipe) if entry.name in raw and raw[entry.name] is None]
    wrong = [name for name in nothing if not Recipe.__annotations__[name].endswith("None")]
    if wrong:
        raise UserError(f"{path} has null for {', '.join(wrong)}; leave the key out for the default")
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    beside = path.parent / f"{parent}.json"
    values = _values(beside if beside.is_file() else _find(parent), (*through, path))
    values.pop("name", None)
    return values | raw


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--recipe` and a flag for every hyperparameter, which overrides the recipe's value."""
    parser.add_argument(
        "--recipe", required=True, metavar="NAME_OR_FILE", help=f"hyperparameters: {', '.join(recipe_names())}"
    )
    group = parser.add_argument_group("overrides of the recipe")
    for entry in fields(Recipe):
        if entry.default is MISSING:
            continue
        options: dict[str, Any] = {"help": entry.metadata["help"], "default": argparse.SUPPRESS}
        if entry.type == "bool":
            options["action"] = argparse.BooleanOptionalAction
        else:
            annotation = Recipe.__annotations__[entry.name]
            options |= {"type": _reader(annotation), "choices": entry.metadata["choices"]}
            options["metavar"] = None if options["choices"] else annotation.split(" ")[0].upper()
        group.add_argument("--" + entry.name.replace("_", "-"), **options)


def _reader(annotation: str) -> Any:
    """Returns the function that parses a flag's text; `none` is None where a field may be None."""
    kind = {"int": int, "float": float, "str": str}[annotation.split(" ")[0]]

    def read(text: str) -> Any:
        return None if annotation.endswith("None") and text.lower() == "none" else kind(text)

    read.__name__ = kind.__name__  # argparse names it when a value does not fit
    return read


def recipe_from_args(args: argparse.Namespace) -> Recipe:
    """Returns the recipe of `--recipe` with the overrides of the command line.

    Raises:
        UserError: as `load_recipe`.
    """
    given = {entry.name: getattr(args, entry.name) for entry in fields(Recipe) if hasattr(args, entry.name)}
    return replace(load_recipe(args.recipe), **given)
