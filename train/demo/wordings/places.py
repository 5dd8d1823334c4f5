"""How other people ask where things are, what is written, what a chart shows; for `wordings`."""

from __future__ import annotations

PLACES = {
    "is_side": """
        Is {one} [found|placed|positioned|located|situated|seen|drawn] {side} {other} <in>?
        Does {one} [sit|stand|appear|lie|come|show up] {side} {other}?
        {one_cap} is {side} {other}<true>
        {one_cap} {side} {other}<true>
        {one_cap} [sits|stands|lies] {side} {other}<true>
        <claim> {one} is {side} {other}<true>
        <wonder> <if> {one} is {side} {other}.
        [Can|Could] one say [that|] {one} is {side} {other}?
        Is it [correct|right|the case] that {one} is {side} {other}?
        Do we find {one} {side} {other}?
        Can {one} be found {side} {other}?
        Looking at [the|this] <pic>, is {one} {side} {other}?
        Would {one} be {side} {other}?
        Is the [position|place|location] of {one} {side} {other}?
        """,
    "which_side": """
        To which side of {other} is {one} [placed|located|]?
        [On|To] [what|which] side of {other} [do you see|can one find|does one find|do we find] {one}?
        [On|To] [what|which] side of {other} [is|sits|lies|stands] {one}?
        Is {one} {choice} {other}?
        {one_cap}: {choice} {other}?
        <tell> <if> {one} is {choice} {other}.
        <tell> where {one} is [relative|compared] to {other}.
        Where does {one} [sit|lie|stand] relative to {other}?
        Seen from {other}, where is {one}?
        Where is {one} [when seen from|as seen from|with regard to|with respect to] {other}?
        [Give|State|Name] the position of {one} relative to {other}.
        Which way from {other} is {one}?
        [In|To] [what|which] direction of {other} [is|lies] {one}?
        If you are at {other}, in which direction is {one}?
        How does {one} lie in relation to {other}?
        """,
    "what_side": """
        [What|Which <thing>] [sits|lies|stands|is placed|is located|is found|appears|comes] {side} {other}?
        [What|Which <thing>] [do|can] [you|we] [find|see|spot] {side} {other}?
        Name the <thing> [that is|] {side} {other}.
        Name what is {side} {other}.
        <tell> [what|which <thing>] is {side} {other}.
        {side} {other} is what?
        {side} {other}, [what|which <thing>] [is there|do you see]?
        [What|Which] is the <thing> {side} {other}?
        Identify the <thing> {side} {other}.
        There is something {side} {other}. What is it?
        """,
    "further": """
        [Which|What] is further [to the {side}|{side}]: {one} or {other}?
        {one_cap} or {other}: which [one|] is [further [to the {side}|{side}]|more to the {side}]?
        Of {one} and {other}, which [one|] is [further [to the {side}|{side}]|more to the {side}|the {side} one]?
        Which of the two is [further [to the {side}|{side}]|more to the {side}], {one} or {other}?
        <tell> which is further [to the {side}|{side}], {one} or {other}.
        Between {one} and {other}, which lies further [to the {side}|{side}]?
        """,
    "higher": """
        {one_cap} or {other}: which [one|] is {side}?
        Of {one} and {other}, which [one|] [is|sits|lies] {side} <in>?
        Which of the two is {side} [up|] <in>, {one} or {other}?
        <tell> which is {side}, {one} or {other}.
        Between {one} and {other}, which is [placed|positioned|located] {side}?
        """,
    "place": """
        Whereabouts [in [the|this] <pic>|] is {the}?
        In [what|which] [part|area|region|section] of [the|this] <pic> [is|lies|do you see|do you find] {the}?
        [What|Which] [part|area|region] of [the|this] <pic> [is {the} in|holds {the}|contains {the}]?
        [Give|State|Name] the [position|location|place] of {the} <in>.
        <tell> where {the} [is|can be found|is located|lies] <in>.
        Where [can|do] [I|we|you|one] find {the} <in>?
        Where [was|is] {the} [drawn|placed|located|positioned|situated] <in>?
        Location of {the}?
        Position of {the}?
        {the_cap}: where [is it|] <in>?
        Locate {the}.
        At [what|which] [place|position] is {the} <in>?
        """,
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
    "parts": """
        How many bars [make up the chart|has the chart|does the chart have]?
        [Number|Count] of [bars|columns]?
        <tell> how many bars [there are|the chart has].
        How many [bars|columns] can you count?
        """,
    "slices": """
        How many [slices|parts|pieces|sectors] [make up the pie|does the [pie|chart] have]?
        [Number|Count] of [slices|pieces|sectors]?
        <tell> how many slices [there are|the pie has].
        Into how many parts is the pie [cut|divided]?
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
