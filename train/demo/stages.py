"""Stages of the demo's training, in order: directory of each run, and its title."""

STAGES = {
    "tower": "vision tower: captions and regions",
    "language": "language model: packed text",
    "sft": "language model: conversations",
    "stage1": "V2 stage 1: captions",
    "stage2": "V2 stage 2: conversations",
    "lessons": "V2 stage 2: sides and numbers alone",
    "finish": "V2 stage 2: conversations again",
    "wide": "V2 stage 2: other people's pictures and words",
}
