"""Second wordings of the questions in `questions.relations`, for `rewording`."""

from __future__ import annotations

RELATIONS = {
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
}
