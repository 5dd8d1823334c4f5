"""Wordings of the questions in `questions.ends`."""

from __future__ import annotations

from .grammar import grammar

EXTREMES = {
    "left": """
        leftmost {noun}
        {noun} on the [far|extreme|very] left
        {noun} at the [far|very|] left[| end| edge| side]
        {noun} [furthest|farthest|most] to the left
        {noun} [furthest|farthest] left
        left-most {noun}
        {noun} on the left end
        {noun} at the left[-hand|] end
    """,
    "above": """
        topmost {noun}
        [uppermost|highest] {noun}
        {noun} at the [very|] top
        {noun} highest up
        {noun} [furthest|farthest] up
        top-most {noun}
        {noun} [nearest|closest] to the top
    """,
}
EXTREMES["right"] = EXTREMES["left"].replace("left", "right")
EXTREMES["below"] = """
    bottommost {noun}
    [lowest|lowermost] {noun}
    {noun} at the [very|] bottom
    {noun} lowest down
    {noun} [furthest|farthest] down
    bottom-most {noun}
    {noun} [nearest|closest] to the bottom
"""
MIDDLE = """
    middle {noun}
    {noun} in the middle
    {noun} in the middle of the {line}
    {noun} [between|in between] the [others|other ones]
    {noun} right in the middle
"""
NAMES = {name: grammar(lines) for name, lines in (EXTREMES | {"middle": MIDDLE}).items()}
COLOR = grammar("""
    [What|Which] <color> is {the} <in>?
    [What|Which] <color> does {the} have?
    [What|What's|What is] the <color> of {the}[?| <in>?]
    [Name|Give|State|Tell me] the <color> of {the}.
    {the_cap} [is|has] [what|which] <color>?
    {the_cap}: [what|which] <color>?
    <color> of {the}?
    <tell> [what|which] <color> {the} is.
    In [what|which] <color> is {the} [drawn|painted|shown]?
    How is {the} [coloured|colored]?
""")
SHAPE = grammar("""
    [What|Which] shape is {the} <in>?
    [What|Which] [shape|form] does {the} have?
    [What is|What's] the shape of {the}?
    [Name|Give|State|Tell me] the shape of {the}.
    {the_cap} is [what|which] shape?
    {the_cap}: [what|which] shape?
    Shape of {the}?
    <tell> [what|which] shape {the} is.
    What kind of shape is {the}?
    What do we call the shape of {the}?
    Is {the} {one} or {other}?
""")
WHICH = grammar("""
    [What|Which one] is {the} <in>?
    What [colored|coloured] shape is {the}?
    [Describe|Identify] {the} <in>.
    {the_cap} is [what|which one]?
    <tell> what {the} is.
    What do you see as {the}?
""")
# Where there is nothing but shapes, "what" is enough.
WHAT = grammar("""
    [What|Which <thing>] is {where} <in>?
    [What|Which <thing>] is {where} <in>?
    [What|Which <thing>] is [placed|located|positioned|drawn|found] {where}?
    <tell> [what|which <thing>] is {where}.
    {where}: [what|which <thing>] is it?
    {where}, [what|which <thing>] [is there|do you see]?
    Name the <thing> {where}.
""")
WHERE = {
    "left": "[on the far left|at the far left|furthest to the left|on the left end|at the left end|leftmost]",
    "above": "[at the top|at the very top|furthest up|highest up|nearest to the top|topmost]",
    "below": "[at the bottom|at the very bottom|furthest down|lowest|nearest to the bottom|bottommost]",
    "middle": "[in the middle|in between the others|right in the middle]",
}
WHERE["right"] = WHERE["left"].replace("left", "right")
CHECK = grammar("""
    Is {the} {said} <in>?
    {the_cap} is {said}<true>
    <wonder> <if> {the} is {said}.
    <claim> {the} is {said}<true>
    Is it [true|right|correct] that {the} is {said}?
    {the_cap}: is it {said}?
""")
BETWEEN = grammar("""
    [What|Which <thing>] is between {one} and {other} <in>?
    [What|Which <thing>] [sits|lies|stands|do you see] between {one} and {other}?
    Name the <thing> between {one} and {other}.
    What is [in the middle|in between], between {one} and {other}?
""")
