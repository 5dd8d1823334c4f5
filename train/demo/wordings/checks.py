"""Second wordings of the questions in `questions.checks`, for `rewording`."""

from __future__ import annotations

CHECKS = {
    "is_color": """
        Does {the} have the <color> {color}?
        {the_cap} is {color}<true>
        {the_cap}: {color}?
        <claim> {the} is {color}<true>
        <wonder> <if> {the} is {color}.
        Is {color} the <color> of {the}?
        Would you [call|describe] {the} [as|] {color}?
        Was {the} [painted|drawn|coloured] [in|] {color}?
        Is {the} [drawn|painted|shown|coloured|filled] [in|] {color} <in>?
        Can one say {the} is {color}?
        Is it [correct|right|the case] that {the} is {color}?
        """,
    "is_shape": """
        Does {the} have the shape of {shape}?
        {the_cap} is {shape}<true>
        {the_cap}: {shape}?
        <claim> {the} is {shape}<true>
        <wonder> <if> {the} is {shape}.
        Would you call {the} {shape}?
        Is {the} shaped like {shape}?
        Is {shape} what {the} is?
        Does {the} look like {shape}?
        Is it [correct|right|the case] that {the} is {shape}?
        """,
    "are_many": """
        Are {number} {things} [drawn|shown|depicted|visible|present] <in>?
        There are {number} {things} <in><true>
        <claim> there are {number} {things} <in><true>
        <wonder> <if> there are {number} {things} <in>.
        Is {number} the [number|count] of {things}?
        Do you count {number} {things} <in>?
        {number} {things}<true>
        Is it [correct|right|true] that there are {number} {things}?
        Does the number of {things} equal {number}?
        """,
    "color_choice": """
        Does {the} have the <color> {one} or {other}?
        Is {the} [painted|drawn|coloured] {one} or {other}?
        {one} or {other}: [what|which] [<color>|] is {the}?
        <tell> <if> {the} is {one} or {other}.
        Which is the <color> of {the}: {one} or {other}?
        {the_cap} - {one} or {other}?
        """,
    "shape_choice": """
        Would you call {the} {one} or {other}?
        Does {the} look like {one} or {other}?
        <tell> <if> {the} is {one} or {other}.
        Which is it, {the}: {one} or {other}?
        {the_cap} - {one} or {other}?
        {the_cap} is {one}, or is it {other}?
        """,
    "what_is": """
        Which [shape|form] is the {color} one?
        [What|Which] shape [was drawn|is drawn|is painted|comes] in {color}?
        [What|Which] [shape|form] has the <color> {color}?
        Name the {color} [shape|form] <in>.
        Which of the shapes is {color}?
        What shape do you see in {color}?
        <tell> which shape is {color}.
        What do we call the {color} shape?
        """,
}
