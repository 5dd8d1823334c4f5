"""The prompt template `v1` in Jinja, for `apply_chat_template`.

The begin-of-sentence token is in the template and the tokenizer adds none: a prompt then has exactly one, whether the
template's text is tokenised by a processor or by `apply_chat_template` itself, which adds no special tokens.
"""

from __future__ import annotations

import json

from mobilevlm.text.prompt import IM_END, IM_START, TEMPLATES

from .names import IMAGE_TOKEN

# As a server of this project does it, a system message goes behind the template's own system prompt; a turn without
# text or image leaves its role alone; each image is followed by a line break.
_JINJA = """\
{%- set ns = namespace(system=SYSTEM, empty=true) -%}
{%- for message in messages if message['role'] == 'system' -%}
{%- set text = message['content'] if message['content'] is string else message['content'][0]['text'] -%}
{%- set ns.system = ns.system + ' ' + text -%}
{%- endfor -%}
{{- bos_token + ns.system + QUESTION_END -}}
{%- for message in messages if message['role'] != 'system' -%}
{{- (ANSWERER if message['role'] == 'assistant' else ASKER) + ':' -}}
{%- set ns.empty = true -%}
{%- if message['content'] is string -%}
{%- if message['content'] -%}{%- set ns.empty = false -%}{{- ' ' + message['content'] -}}{%- endif -%}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'image' or part['text'] -%}
{%- if ns.empty -%}{%- set ns.empty = false -%}{{- ' ' -}}{%- endif -%}
{{- IMAGE if part['type'] == 'image' else part['text'] -}}
{%- endfor -%}
{%- endif -%}
{%- if not ns.empty -%}{{- ANSWER_END if message['role'] == 'assistant' else QUESTION_END -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ANSWERER + ':' -}}{%- endif -%}
"""


def chat_template(start_end: bool) -> str:
    """Returns the template.

    Args:
        start_end: whether `<im_start>` and `<im_end>` stand around images (the checkpoint's `mm_use_im_start_end`).
    """
    layout = TEMPLATES["v1"]
    image = f"{IM_START.name}{IMAGE_TOKEN}{IM_END.name}\n" if start_end else f"{IMAGE_TOKEN}\n"
    words = {
        "SYSTEM": layout.system,
        "QUESTION_END": layout.sep,
        "ANSWER_END": layout.sep2 or layout.sep,
        "ASKER": layout.roles[0],
        "ANSWERER": layout.roles[1],
        "IMAGE": image,
    }
    text = _JINJA
    for word, value in words.items():
        text = text.replace(word, json.dumps(value))
    return text
