"""Second wordings of the questions in `questions.attributes`, for `rewording`."""

from __future__ import annotations

ATTRIBUTES = {
    "existence": """
        Would there be {thing} <in>?
        Is there {thing} [to be seen|present|anywhere|among the shapes|somewhere] <in>?
        Is there [a single|at least one|any] {thing_alone} <in>?
        Has [the|this] <pic> got {thing}?
        Does [the|this] <pic> [include|feature|depict|display|hold|have] {thing} [at all|somewhere|]?
        Does {thing} [occur|exist|show up|appear|feature] <in>?
        <wonder> <if> there is {thing} <in>.
        <wonder> <if> [the|this] <pic> [shows|contains|has|includes] {thing}.
        <claim> there is {thing} <in><true>
        [There is|There's] {thing} <in><true>
        There is {thing} <in>[, yes?|, or not?|, isn't there?|?]
        {thing_cap} <in>?
        {thing_cap}: yes or no?
        {thing_cap} [is there|can be [seen|found]|is [seen|shown]] <in><true>
        Can {thing} be [found|spotted|made out|seen|located] <in>?
        [Can|Could] [one|anyone|you|somebody] [see|find|spot|make out|locate] {thing} <in>?
        Do you [see|spot|find|notice|observe|detect|recognize] {thing} [anywhere|at all|] <in>?
        [Can|Do] you see any {things} [at all|anywhere|] <in>?
        [Any|Are there] {things} [present|around|at all|shown] <in>?
        Is one of the <thing>s {thing}?
        Is any [of the <thing>s|<thing>] {thing}?
        Would you [say|agree] [that|] there is {thing} <in>?
        Is it [true|right|correct|the case] that there is {thing} <in>?
        Is {thing} [part of [the|this] <pic>|drawn here|among what is shown|in view|depicted]?
        Did [someone|anyone|they] draw {thing} <in>?
        Look for {thing}. Is it there?
        Confirm: {thing} <in>?
        Are there [one or more|any] {things} <in>?
        [Can|Could] you confirm [that|] there is {thing} <in>?
        """,
    "existence_color": """
        Has [something|anything] {color} been drawn <in>?
        Is [some|any] <thing> {color} <in>?
        Is {color} the <color> of any <thing> <in>?
        Does [any|some] <thing> have the <color> {color}?
        Does [the|this] <pic> [contain|have|show] [anything|something|any <thing>] {color}?
        <wonder> <if> [anything|something] <in> is {color}.
        Is [one of the <thing>s|any of the <thing>s] {color}?
        Are any [of the|] <thing>s {color} <in>?
        Was {color} used for any <thing>?
        {color} <thing>s: are there any?
        Can you find [something|anything] {color} <in>?
        """,
    "color": """
        [What|Which] <color> is {the}, please?
        [What|Which] <color> [has {the}|does {the} have]?
        [Name|Give|State|Identify|Report|Specify] the <color> of {the} <in>.
        <tell> [what|which] <color> {the} [is|has].
        <tell> the <color> of {the} <in>.
        {the_cap}'s <color>?
        {the_cap}'s <color> is?
        {the_cap} - <color>?
        <color> [of|for] [{the}|{bare}]?
        {bare} <color>?
        What is {the}'s <color>?
        What's {the}'s <color> <in>?
        How is {the} [coloured|colored|painted|tinted] <in>?
        What <color> [was|has] {the} [drawn|painted|filled|given|coloured] [in|with]?
        In [what|which] <color> [is|was] {the} [drawn|shown|painted|filled|depicted|printed|rendered]?
        With [what|which] <color> is {the} [filled|painted|drawn]?
        [What|Which] <color> [did they use|was used|was chosen|has been used] for {the}?
        [Look at|Find|Consider] {the}. [What|Which] <color> is it?
        [Look at|Find|Consider] {the} and [name|tell me|give] its <color>.
        I [see|can see] {the}. What <color> [is it|does it have]?
        [Can|Could|Would] you [tell|name|say|give] [me|] the <color> of {the}?
        [Can|Could] you tell me [what|which] <color> {the} [is|has]?
        {the_cap} is [which|what] <color>?
        {the_cap} is [drawn|shown|painted|filled] in [which|what] <color>?
        {the_cap} has [which|what] <color>?
        The <color> of {the} is [what|which]?
        The <color> of {the} <in> is?
        [What|Which] <color> [would you call|would you say is|describes|is used for|fills|does one see on] {the}?
        I'd like to know the <color> of {the}.
        What is the [fill|] <color> of {the}?
        Describe the <color> of {the}.
        What is {the} coloured?
        What <color> can be seen on {the}?
        """,
    "shape": """
        [What|Which] [geometric|geometrical|] [shape|form|figure] is {the} <in>?
        [What|Which] [shape|form|figure] [does] {the} [have|show|take]?
        [Name|Identify|State|Give|Report|Recognize] the [shape|form] of {the} <in>.
        Name {the}[.| <in>.| by its shape.]
        Identify {the} by its shape.
        What [do we|do you|would you|does one|do people] call {the}?
        What do we call the shape of {the}?
        How would you [call|name|describe the shape of|describe the form of] {the}?
        What [sort|kind|type] of [shape|figure|form|symbol|geometric figure] is {the}?
        <tell> [what|which] [shape|form|figure] {the} [is|has].
        <tell> the [shape|form] of {the}.
        {the_cap}'s [shape|form]?
        {the_cap} - [which|what] shape?
        {the_cap} is [a|an] what?
        {the_cap} is [what|which] [shape|form|figure]?
        {the_cap} has [what|which] [shape|form]?
        [Shape|Form|Figure] of {the}?
        The shape of {the} is [what|which]?
        The shape of {the}?
        [Look at|Find|Consider] {the}. [What|Which] shape is it?
        [Look at|Find] {the} and [name|tell me|give] its shape.
        [Can|Could] you [identify|name|recognize|classify] {the}?
        [Can|Could] you tell me [what|which] shape {the} is?
        [What|Which] [geometric figure|geometric shape|polygon or curve] is {the}?
        What is {the}'s [shape|form]?
        What [shape|form] is [depicted|drawn|shown] by {the}?
        [What|Which] shape was {the} drawn as?
        [What|Which] name does the shape of {the} have?
        What figure [does {the} make|does {the} form|do you see in {the}]?
        Classify {the} by shape.
        What is {the}, geometrically?
        What [form|shape] do you [see|recognize] in {the}?
        """,
    "count": """
        How many {things} [exist|occur|are [present|visible|depicted|drawn]|can be [seen|counted]|show up] <in>?
        How many {things} [has [the|this] <pic>|does [the|this] <pic> [have|show|contain|include|feature|hold]]?
        How many {things} are there [altogether|in total|overall|all in all|in all] <in>?
        How many {things} [do|can] [we|you] [see|count|find|have|notice|make out] <in>?
        How many {things} [did they draw|have been drawn|were drawn|got drawn] <in>?
        How many {things}, please?
        [What|Which] number of {things} [is|are] [shown|there|present|visible|drawn|in [the|this] <pic>]?
        What number of {things} [do you|can you|does one] [see|count] <in>?
        [Give|State|Report|Name|Tell me|Find] the [number|total number|count|quantity|amount] of {things} <in>.
        [What is|What's] the [total|overall|] [number|count|quantity|tally] of {things} <in>?
        [Number|Count|Quantity|Total|Amount|Total number] of {things} [present|visible|shown|drawn|here|<in>]?
        [Number|Count|Quantity|Total] of {things}:
        {things}: how many?
        {things}, how many [of them|] [are there|]?
        {things} - [how many|number|count]?
        Total {things} [visible|shown|present|here|<in>]?
        Count [up|] [the|all the|all|every one of the] {things} [you see|there are|that you can find|] <in>.
        [Please|Kindly|Go ahead and] count [up|] [the|all the|all] {things} <in>.
        Count the {things} and [tell me|give|report|say] [the number|how many there are|the total].
        <tell> how many {things} [there are|are there|you see|are shown|you can count|are visible] <in>.
        Enumerate the {things} <in>.
        [Can|Could] you [count|tell me the number of|say how many|work out how many] {things} [there are|] <in>?
        I [count|see] some {things}. How many [are there|exactly]?
        There are how many {things} <in>?
        [The|This] <pic> [has|shows|contains] how many {things}?
        You see how many {things}?
        If you count the {things}, [what do you get|how many are there|what number do you get]?
        How large is the number of {things} <in>?
        """,
    "count_of": """
        How many of [the <thing>s|these|them|the <thing>s <in>|these <thing>s] are {things}?
        How many <thing>s are {things}?
        Of [the|all] <thing>s, how many are {things}?
        Of these <thing>s, what number are {things}?
        Among the <thing>s, how many {things} are there?
        """,
    "size": """
        Is {the} [rather|fairly|] [big or small|small or big|large or small|tiny or big]?
        {the_cap}: [big or small|small or big|large or small]?
        Which size [has {the}|does {the} have]: big or small?
        <tell> <if> {the} is big or small.
        How [large|big] [is {the}|does {the} look]: big or small?
        What would you say about {the}'s size: small or big?
        Size of {the}?
        """,
    "compare": """
        Of {one} and {other}, which is {more}?
        {one_cap} or {other}: which [one|] is {more}?
        Between {one} and {other}, [which|what] is [the {more} one|{more}]?
        Compare {one} with {other}: which [one|] is {more}?
        <tell> which is {more}, {one} or {other}.
        Which of the two is {more}: {one} or {other}?
        Name the {more} one of {one} and {other}.
        """,
    "is_bigger": """
        <wonder> <if> {one} is {more} than {other}.
        {one_cap} is {more} than {other}<true>
        Would you say {one} is {more} than {other}?
        Compared with {other}, is {one} {more}?
        Does {one} look {more} than {other}?
        <claim> {one} is {more} than {other}<true>
        """,
    "background": """
        [Name|Give|State|Identify] the <color> of the background.
        [What|Which] <color> [has the background|does the background have]?
        Background <color>?
        <tell> [what|which] <color> the background [is|has].
        The background is [what|which] <color>?
        [What|Which] <color> is [behind everything|used as background|the backdrop]?
        In [what|which] <color> is the background [painted|drawn|filled]?
        How is the background [coloured|colored]?
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
}
