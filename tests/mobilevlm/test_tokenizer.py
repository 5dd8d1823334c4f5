"""`mobilevlm.text.tokenizer` against the slow LLaMA tokenizer of transformers 4.33.3 and the original's goldens.

`tokenizer_reference.json` says how it was made. Its texts are tokenised under eleven sets of tokenizer files.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevlm.checkpoint.config import ConfigError
from mobilevlm.text.tokenizer import IMAGE, SPACE, Token, Tokenizer, TokenizerError

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = GOLDEN / "_common" / "tokenizer_small"
REFERENCE = json.loads((GOLDEN / "tokenizer_reference.json").read_text())
SETTINGS = REFERENCE["settings"]
IM_TOKENS = ["<im_patch>", "<im_start>", "<im_end>"]
NAMES = ["<s>", "</s>", "<unk>", "<image>", *IM_TOKENS]

SETTLED = settings(derandomize=True, database=None, deadline=None)
ENCODABLE = st.characters(exclude_categories=["Cs"])


def write_files(directory: Path, files: dict, append_to_model: str = "") -> Path:
    directory.mkdir(exist_ok=True)
    model = (SMALL / "tokenizer.model").read_bytes() + bytes.fromhex(append_to_model)
    (directory / "tokenizer.model").write_bytes(model)
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    return directory


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    made = {}
    for name, setting in SETTINGS.items():
        made[name] = Tokenizer(write_files(root / name, setting["files"], setting["append_to_model"]))
        made[name].add_tokens(setting["add_tokens"])
    return made


@pytest.fixture(params=SETTINGS)
def setting(request, tokenizers):
    return SETTINGS[request.param], tokenizers[request.param]


def test_ids_of_special_tokens_match_reference(setting):
    expected, tokenizer = setting
    assert [tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.pad_id] == expected["bos_eos_unk_pad"]
    assert tokenizer.special_ids == set(expected["special_ids"])
    assert len(tokenizer) == expected["length"]


def test_encode_matches_reference(setting):
    expected, tokenizer = setting
    for text, input_ids in zip(REFERENCE["texts"], expected["input_ids"], strict=True):
        assert tokenizer.encode(tokenizer.parse(text)) == input_ids, repr(text)


def test_decode_matches_reference(setting):
    expected, tokenizer = setting
    for ids, text, verbatim in expected["decode"]:
        assert tokenizer.decode(ids) == text, ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == verbatim, ids


@pytest.mark.parametrize(
    "name, token, takes",
    [
        ("published", "</s>", False),  # an object in special_tokens_map.json
        ("plain_strings", "</s>", True),  # a plain string there
        ("config_strings", "</s>", False),  # a plain string in tokenizer_config.json
        ("vicuna", "<unk>", False),  # an object as unk_token and a plain string as pad_token
        ("published_im", "<im_start>", True),  # add_tokens
        ("published_im_saved", "<im_start>", True),  # added_tokens.json
    ],
)
def test_whether_a_token_takes_whitespace(name, token, takes, tokenizers):
    tokenizer = tokenizers[name]
    bare = tokenizer.encode(["a", Token(token), "b"])
    assert (tokenizer.encode(["a \n", Token(token), "  b"]) == bare) is takes


@pytest.mark.parametrize("case", json.loads((GOLDEN / "_common" / "tokenizer_image_token.json").read_text()), ids=str)
def test_encode_matches_original(case, tokenizers):
    tokenizer = tokenizers["published"]
    assert tokenizer.encode(tokenizer.parse(case["prompt"])) == case["input_ids"]


@pytest.mark.parametrize("name", ["v1_ldpnet_112", "v2_ldpnetv2_336"])
def test_model_golden_round_trips(name):
    meta = json.loads((GOLDEN / name / "meta.json").read_text())
    tokenizer = Tokenizer(GOLDEN / name / "ckpt_bin")
    with np.load(GOLDEN / name / "golden.npz") as golden:
        assert tokenizer.encode(tokenizer.parse(meta["prompt"])) == golden["input_ids"][0].tolist()
        assert tokenizer.decode(golden["greedy_tokens"]).strip() == meta["greedy_text"]


@pytest.mark.parametrize("name, legacy", [("published", True), ("plain_strings", True), ("vicuna", False)])
def test_legacy(name, legacy, tokenizers):
    tokenizer = tokenizers[name]
    assert tokenizer.legacy is legacy
    after_eos = tokenizer.encode([Token("</s>"), "USER"])[2]
    assert (after_eos == tokenizer.encode(["USER"])[1]) is legacy  # its own leading space, or none


def test_text_is_never_control(tokenizers):
    tokenizer = tokenizers["published_im"]
    ids = tokenizer.encode(["</s>"])
    assert tokenizer.eos_id not in ids
    assert tokenizer.decode(ids) == "</s>"
    assert ids != tokenizer.encode([Token("</s>")])


@pytest.mark.parametrize("name", ["published_im", "not_legacy_im", "plain_strings"])
def test_text_with_pieces_of_names_never_yields_a_control_id(name, tokenizers):
    tokenizer = tokenizers[name]
    control = tokenizer.special_ids | {tokenizer.token_to_id(token) for token in NAMES} - {None}
    parts = st.sampled_from([*NAMES, "<", "</", "s>", "<im", "_start>", "unk>", "<0x0A>", " ", "\n", SPACE])

    @SETTLED
    @given(st.lists(st.one_of(parts, st.text(ENCODABLE, max_size=4))))
    def check(pieces):
        whole = tokenizer.encode(["".join(pieces)])
        assert whole[0] == tokenizer.bos_id
        assert not control & set(whole[1:])
        assert -200 not in whole
        assert tokenizer.encode(pieces) == whole  # neighbouring texts are one text

    check()


@SETTLED
@given(text=st.text(ENCODABLE).filter(lambda text: not any(name in text for name in NAMES)))
def test_text_without_names_is_what_the_original_reads(text):
    tokenizer = Tokenizer(SMALL)
    assert tokenizer.parse(text) == ([text] if text else [])
    assert tokenizer.encode([text]) == tokenizer.encode(tokenizer.parse(text))


def test_parse_finds_control_tokens(tokenizers):
    segments = tokenizers["published_im"].parse("a<im_start><image></image> </s>b <im_")
    assert segments == ["a", Token("<im_start>"), IMAGE, "</image> ", Token("</s>"), "b <im_"]
    assert tokenizers["published"].parse("<im_start>") == ["<im_start>"]


def test_image_token_id_can_be_chosen(tokenizers):
    assert tokenizers["published"].encode(["a", IMAGE, IMAGE], image_token_id=-7)[-2:] == [-7, -7]


def test_unknown_token_names_the_known_ones(tokenizers):
    with pytest.raises(TokenizerError, match=r"<im_start>.*</s>.*add_tokens"):
        tokenizers["published"].encode([Token("<im_start>"), IMAGE])


def test_add_tokens_skips_existing(tokenizers):
    tokenizer = Tokenizer(SMALL)
    tokenizer.add_tokens(["<im_start>", "</s>"])
    tokenizer.add_tokens(["<im_start>", "<im_end>"])
    assert [tokenizer.token_to_id(name) for name in ("<im_start>", "</s>", "<im_end>")] == [768, 2, 769]
    assert len(tokenizer) == 770
    assert tokenizer.token_to_id("<image>") is None


def test_decode_leaves_out_ids_outside_the_vocabulary(tokenizers):
    tokenizer = tokenizers["published_im"]
    ids = tokenizer.encode(["Hello"])
    assert tokenizer.decode([-200, *ids, -1, len(tokenizer), 10**9]) == tokenizer.decode(ids) == "Hello"
    assert tokenizer.decode(np.array(ids)) == "Hello"


def test_added_tokens_decoder_means_the_same_as_added_tokens(tmp_path, tokenizers):
    """Transformers 5 writes added tokens into tokenizer_config.json, next to those of the model itself."""
    saved = SETTINGS["published_im_saved"]
    config = dict(saved["files"]["tokenizer_config.json"])
    names = {0: "<unk>", 1: "<s>", 2: "</s>", **dict(enumerate(IM_TOKENS, start=768))}
    config["added_tokens_decoder"] = {str(index): {"content": name, "special": True} for index, name in names.items()}
    tokenizer = Tokenizer(write_files(tmp_path, {"tokenizer_config.json": config}))
    assert len(tokenizer) == 771
    for text, input_ids in zip(REFERENCE["texts"], saved["input_ids"], strict=True):
        assert tokenizer.encode(tokenizer.parse(text)) == input_ids, repr(text)


def test_added_token_with_another_id_is_refused(tmp_path):
    with pytest.raises(TokenizerError, match="<im_patch> has id 32000 .* 768 .* copy all"):
        Tokenizer(write_files(tmp_path, {"added_tokens.json": {"<im_patch>": 32000}}))


def test_missing_model_names_file_and_remedy(tmp_path):
    with pytest.raises(TokenizerError, match=r"tokenizer\.model is missing: copy the file"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\n", None])
@pytest.mark.parametrize("legacy", [True, False])
def test_corrupt_model_names_file_and_remedy(tmp_path, content, legacy):
    content = (SMALL / "tokenizer.model").read_bytes()[:5000] if content is None else content
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"legacy": legacy}))
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(TokenizerError, match=rf"tokenizer\.model \({len(content)} bytes\).*git lfs pull"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
def test_corrupt_json_names_file(tmp_path, name):
    write_files(tmp_path, {})
    (tmp_path / name).write_text("{")
    with pytest.raises(ConfigError, match=name):
        Tokenizer(tmp_path)
