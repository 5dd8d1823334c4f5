"""Second wordings of the questions in `questions.reading`, for `rewording`."""

from __future__ import annotations

READING = {
    "number": """
        <read> the [number|digits] <in>.
        [Please|Kindly] [read|read out|transcribe|tell me|type] the [number|digits] <in>.
        [What|Which] [number|digits|numeral] [is|are] <printed> <in>?
        [What|Which] [number|digits|numeral] [do|can] [you|we|one] [read|see|make out] <in>?
        [What|Which] number [appears|stands|shows up] <in>?
        What does the number [read|say|show] <in>?
        The number <in> is?
        The number [reads|says] what?
        Number <in>?
        <tell> [what|which] number [is <printed>|you see|you can read] <in>.
        [What|Which] number has been [written|printed|drawn] <in>?
        Which figure is printed <in>?
        What's the [numerical|] value [shown|written|printed] <in>?
        [Can|Could] you [read|tell me|make out|read out] the number <in>?
        I cannot read the number. What [is it|does it say]?
        There is a number <in>. [Which one|What is it|Which]?
        Look at the number. What is it?
        Identify the number.
        """,
    "word": """
        <read> the [word|text|writing] <in>.
        [Please|Kindly] [read|read out|transcribe|tell me|type] the [word|text] <in>.
        [What|Which] [word|text] [is|was] <printed> <in>?
        [What|Which] [word|text] [do|can] [you|we|one] [read|see|make out] <in>?
        [What|Which] word [appears|stands|shows up] <in>?
        What does the [word|text|lettering] [read|say] <in>?
        The word <in> is?
        The word [reads|says] what?
        Word <in>?
        <tell> [what|which] word [is <printed>|you see|you can read] <in>.
        What [letters|lettering] [is|do you see] <printed> <in>?
        [Can|Could] you [read|tell me|make out|read out] the word <in>?
        What is the word that is <printed> <in>?
        There is a word <in>. [Which one|What is it|Which]?
        What do the letters [spell|say]?
        """,
    "has_text": """
        Is there a [word or a number|number or a word|text or number|label] <in>?
        Is there anything to read <in>?
        <wonder> <if> anything is written <in>.
        Does [the|this] <pic> [contain|have|show] [writing|text|letters or digits|words or numbers]?
        Are there [letters or digits|characters] <in>?
        Any [text|writing] <in>?
        """,
    "extreme_bar": """
        [Name|Give|State] the <color> of the {which} bar.
        <tell> [what|which] <color> the {which} bar [is|has].
        {which} bar: [which|what] <color>?
        Which <color> does the {which} bar have?
        """,
    "extreme_slice": """
        [Name|Give|State] the <color> of the {which} [slice|piece|sector].
        <tell> [what|which] <color> the {which} slice [is|has].
        {which} slice: [which|what] <color>?
        """,
    "chart": """
        Name the [kind|type] of chart.
        Bar chart or pie chart?
        [What|Which] [type|kind|sort] of [chart|diagram|plot] do you see <in>?
        <tell> what kind of chart this is.
        Is that a pie chart or a bar chart?
        """,
    "describe": """
        Describe [the|this] <pic> [briefly|in a few words|in a few sentences|for me|to me|].
        [What|Tell me what] [does one see|do you see|is depicted|is drawn|can be seen] <in>[?|.]
        [Say|Tell me|Write] [something|a few words|a sentence or two] about [the|this] <pic>.
        What's [going on|depicted|drawn|shown] <in>?
        [Give|Write] [a caption|a summary|an overview|a description] [for|of] [the|this] <pic>.
        [List|Name] what [you see|is shown|there is] <in>.
        What are we looking at?
        Explain [the|this] <pic>.
        Summarize what is shown.
        """,
}
