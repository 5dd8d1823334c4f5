"""Wordings of the questions in `questions.several_texts`."""

from __future__ import annotations

from .grammar import grammar

READ = grammar("""
    What is {the} <in>?
    What's {the}?
    What does {the} [say|read]?
    <read> {the} <in>.
    <read> {the}.
    Please [read|read out|transcribe] {the}.
    [What|Which] is {the}?
    <tell> what {the} [is|says].
    {the_cap} is?
    {the_cap}?
    {the_cap} [says|reads|is] what?
    [Can|Could] you [read|tell me] {the}?
    What is the value of {the}?
    [What|Which] [characters do|{kind} do] you [see|read] as {the}?
""")
WHICH_READ = grammar("""
    [What|Which] {kind} is {where} <in>?
    [What|Which] {kind} is {where}?
    [What|Which] {kind} is [written|printed|shown|displayed] {where}?
    [What|Which] {kind} [do|can] you [see|read] {where}?
    [What|Which] {kind} [stands|appears] {where}?
    <tell> which {kind} is {where}.
    <read> the {kind} {where}.
""")
COLORED = grammar("""
    [What|Which] {kind} is {color} <in>?
    [What|Which] {kind} is [written|printed|shown|drawn] in {color}?
    <read> the {kind} [written|printed|shown] in {color}.
    [What|Which] {kind} has the <color> {color}?
    What is written in {color}?
""")
CHECK = grammar("""
    Is {the} {text} <in>?
    Is {the} {text}?
    Does {the} [say|read] {text}?
    {the_cap} is {text}<true>
    <wonder> <if> {the} is {text}.
    <claim> {the} is {text}<true>
    Is {text} {the}?
    Is it [true|right|correct] that {the} is {text}?
    {the_cap}: {text}?
""")
TEXT_COLOR = grammar("""
    [What|Which] <color> is {the} <in>?
    [What|What's|What is] the <color> of {the}?
    In [what|which] <color> is {the} [written|printed|shown]?
    [Name|Give|State|Tell me] the <color> of {the}.
    <color> of {the}?
    {the_cap} is [written|printed|] in [what|which] <color>?
    {the_cap}: [what|which] <color>?
    [What|Which] <color> does {the} have?
    <tell> [what|which] <color> {the} is.
""")
HOW_MANY = grammar("""
    How many {kinds} are [there|<printed>|visible] <in>?
    How many {kinds} [do|can] you [see|read|count|find] <in>?
    Count the {kinds} <in>.
    [What is|What's|Give|Tell me] the [number|count] of {kinds} <in>?
    <tell> how many {kinds} there are <in>.
    How many {kinds} does [the|this] <pic> [have|show|contain]?
    {kinds}: how many?
""")
ALL = grammar("""
    What are the [{many}|] {kinds} <in>?
    Which {kinds} are <printed> <in>?
    Which {many} {kinds} [do|can] you [see|read] <in>?
    <read> [the [{many}|] {kinds}|all {kinds}|both {kinds}] <in>.
    What {kinds} [are <printed>|do you see|can you read] <in>?
    List the {kinds} <in>.
    Name [the|all|all the] {kinds} <in>.
    <tell> [what|which] {kinds} there are.
    [The|All] {kinds} are?
""")
EVERYTHING = grammar("""
    What is [written|printed] <in>?
    Read everything [that is written|] <in>.
    <read> all [the|] text <in>.
    What does it say <in>?
    What does [the|this] <pic> say?
    What text do you see <in>?
    Transcribe [the|this] <pic>.
""")
PRESENT = grammar("""
    Is [there the {kind}|the {kind}|there a {kind}] {text} <in>?
    Is {text} [written|shown|printed|one of the {kinds}] <in>?
    Do you see [the {kind}|] {text} <in>?
    Can you [read|find] [the {kind}|] {text} <in>?
    <wonder> <if> {text} is written <in>.
    Does [the|this] <pic> [show|contain] the {kind} {text}?
""")
LARGER = grammar("""
    [What|Which] is the {more} [number|of the [two|] numbers] <in>?
    [What|Which] number is {more} <in>?
    Which of the [two|] numbers is {more}?
    <read> the {more} number.
    The {more} number is?
    <tell> the {more} of the numbers.
""")
LEFT = "[on the left|at the left|to the left|on the left side|on the left-hand side]"
SIDES = {"left": LEFT, "right": LEFT.replace("left", "right")}
SIDES |= {"above": "[at the top|above|on top|in the upper part]", "below": "[at the bottom|below|in the lower part]"}
FRONT = {"left": "left[-hand|]", "right": "right[-hand|]", "above": "[upper|top]", "below": "[lower|bottom]"}
MOST = {"left": "leftmost", "right": "rightmost", "above": "[topmost|uppermost]", "below": "[lowest|bottommost]"}
