"""Training: the published recipes as data, and the commands that run them on transformers' Trainer.

`finetune.py` trains a projector, a language model or a LoRA; `merge_lora.py` puts a LoRA into its base. `recipe.py`
says what a recipe is, `recipes/*.json` are the published ones.
"""
