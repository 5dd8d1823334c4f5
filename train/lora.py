"""LoRA fine-tuning through PEFT: the language model's linears learn low-rank changes, the projector learns whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobilevlm.errors import UserError
from mobilevlm.model.model import MobileVLM
from mobilevlm.model.projectors import PREFIX

from .recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftModel

# Every linear of a LLaMA but lm_head. The tower has layers of the same names, which the original leaves alone too.
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
EXCLUDED = r".*(vision_tower|mm_projector).*"


def with_lora(model: MobileVLM, recipe: Recipe, base: str) -> PeftModel:
    """Wraps a model so that only its LoRA and its projector are trained.

    Args:
        model: the model that the LoRA is put on.
        recipe: rank, scale, dropout.
        base: name of the base in the adapter's configuration.

    Raises:
        UserError: PEFT is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UserError("LoRA training needs PEFT: pip install peft") from None
    config = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        bias="none",  # all that `lora_bias` of a recipe can be
        task_type="CAUSAL_LM",
        target_modules=list(TARGETS),
        exclude_modules=EXCLUDED,
    )
    wrapped = get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        if PREFIX in name:
            parameter.requires_grad_(True)
    wrapped.peft_config["default"].base_model_name_or_path = base
    return wrapped
