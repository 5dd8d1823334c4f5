"""Table of contractions without their apostrophes, which the scorer of VQA and TextVQA corrects."""

from __future__ import annotations

# Corrected when all apostrophes are missing. That the official table lacks some (she'll, for one) is part of the score.
_ALL_MISSING = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's I'm
    I've isn't it'd it'll ma'am might've mightn't must've mustn't needn't not've o'clock oughtn't shan't should've
    shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're
    there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd
    where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're
    you've
"""
# Corrected when one of several is missing, each form after the right one.
_ONE_MISSING = {
    "couldn't've": "couldn'tve couldnt've",
    "hadn't've": "hadnt've hadn'tve",
    "he'd've": "hed've he'dve",
    "I'd've": "Id've I'dve",
    "it'd've": "itd've it'dve",
    "mightn't've": "mightnt've mightn'tve",
    "'ow's'at": "ow's'at 'ows'at 'ow'sat",
    "she'd've": "shed've she'dve",
    "shouldn't've": "shouldnt've shouldn'tve",
    "somebody'd've": "somebodyd've somebody'dve",
    "someone'd've": "someoned've someone'dve",
    "something'd've": "somethingd've something'dve",
    "there'd've": "thered've there'dve",
    "they'd've": "theyd've they'dve",
    "we'd've": "wed've we'dve",
    "who'd've": "whod've who'dve",
    "wouldn't've": "wouldnt've wouldn'tve",
    "y'all'll": "yall'll y'allll",
    "y'all'd've": "yall'd've y'alld've y'all'dve",
    "you'd've": "youd've you'dve",
}
# Official too: the first is the wrong way round, the others change nothing.
_ODD = {"somebody'd": "somebodyd", "let's": "let's", "she's": "she's"}

CONTRACTIONS = (
    {right.replace("'", ""): right for right in _ALL_MISSING.split()}
    | {wrong: right for right, forms in _ONE_MISSING.items() for wrong in forms.split()}
    | _ODD
)
