"""The original's quick-start call."""

from argparse import Namespace

from PIL import Image

from mobilevlm.inference import inference_once
from tests.conftest import load_golden


def test_inference_once_keeps_the_originals_fields(tmp_path, capsys):
    golden = load_golden("v1_ldpnet_112")
    Image.fromarray(golden.arrays["image_uint8"]).save(tmp_path / "picture.png")
    arguments = Namespace(
        model_path=str(golden.checkpoint),
        image_file=str(tmp_path / "picture.png"),
        prompt=golden.meta["user_prompt"],
        conv_mode="v1",
        temperature=0,
        top_p=None,
        num_beams=1,
        max_new_tokens=16,
        load_8bit=False,
        load_4bit=False,
    )
    text = inference_once(arguments)
    assert text == golden.meta["greedy_text"].strip()
    assert capsys.readouterr().out == text + "\n"
