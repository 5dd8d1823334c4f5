"""Table of the published data sets: the files that recipes and benchmarks read, and who offers them.

The tree is the one the original project describes; all paths start from the directory that `--data` names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

COCO = "COCO 2017 (cocodataset.org)"
LLAVA_PRETRAIN = "images.zip of LLaVA-Pretrain (huggingface.co/datasets/liuhaotian/LLaVA-Pretrain)"
SAM = "SA-1B, archives 000000 to 000050 (ai.meta.com/datasets/segment-anything-downloads)"
SHARE_WEB = "the web images of ShareGPT4V (sharegpt4v.github.io)"
BENCHMARKS = "benchmark_data.zip of MobileVLM's release v0.1 (github.com/Meituan-AutoML/MobileVLM/releases)"

# Of LLaVA's mixture; MobileVLM V2's has the same and more.
FINETUNE_IMAGES = {
    "coco/train2017": COCO,
    "gqa/images": "GQA (cs.stanford.edu/people/dorarad/gqa)",
    "ocr_vqa/images": "OCR-VQA (ocr-vqa.github.io), every file saved as .jpg",
    "textvqa/train_images": "TextVQA, train_val_images.zip (textvqa.org)",
    "vg/VG_100K": "Visual Genome, part 1 (homes.cs.washington.edu/~ranjay/visualgenome)",
    "vg/VG_100K_2": "Visual Genome, part 2 (homes.cs.washington.edu/~ranjay/visualgenome)",
}


@dataclass(frozen=True)
class DataSet:
    """One annotation file and the images that it names.

    Attributes:
        name: for `--for`; benchmarks are `benchmark/NAME`.
        annotations: the file.
        source: who offers the file.
        form: what a row has to look like. "plain" and "v1" are conversations for that template; "any" conversations
            that a benchmark only reads; "question" and "table" the lines of a benchmark's .jsonl and .tsv.
        images: folder that the image paths of the rows start from; None where the images are in the file.
        folders: who offers the images, by folder below `images`; "" is `images` itself.
        also: further JSON files that have to be there, and who offers them.
    """

    name: str
    annotations: str
    source: str
    form: str
    images: str | None
    folders: dict[str, str] = field(default_factory=dict)
    also: dict[str, str] = field(default_factory=dict)

    def home_of(self, folder: str) -> str:
        """Longest of `folders` that a folder below `images` is or lies in; "" if none."""
        fitting = [home for home in self.folders if home in ("", folder) or folder.startswith(f"{home}/")]
        return max(fitting, key=len, default="")


def _benchmark(
    name: str,
    annotations: str,
    images: str | None,
    where_from: str,
    form: str = "question",
    also: tuple[str, ...] = (),
    also_from: str = BENCHMARKS,
) -> DataSet:
    root = f"benchmark_data/{name}"
    return DataSet(
        name=f"benchmark/{name}",
        annotations=f"{root}/{annotations}",
        source=BENCHMARKS,
        form=form,
        images=f"{root}/{images}" if images else None,
        folders={"": where_from},
        also={f"{root}/{file}": also_from for file in also},
    )


DATA_SETS = (
    DataSet(
        "v2_stage1",
        annotations="pretrain_data/share-captioner_coco_lcs_sam_1246k_1107.json",
        source="ShareGPT4V-PT (huggingface.co/datasets/Lin-Chen/ShareGPT4V)",
        form="plain",
        images="pretrain_data",
        folders={"coco/train2017": COCO, "llava/llava_pretrain": LLAVA_PRETRAIN, "sam/images": SAM},
    ),
    DataSet(
        "v2_stage2",
        annotations="finetune_data/MobileVLM_V2_FT_Mix2M.json",
        source="MobileVLM_V2_FT_Mix2M (huggingface.co/datasets/mtgv/MobileVLM_V2_FT_Mix2M)",
        form="v1",
        images="finetune_data",
        folders=FINETUNE_IMAGES
        | {
            "coco/val2017": COCO,
            "iconqa_data/iconqa/train": "IconQA (iconqa.github.io)",
            "sam/images": "the 9,000 images of SA-1B that ShareGPT4V names (sharegpt4v.github.io)",
            "SBU/images": "SBU Captions (huggingface.co/datasets/sbu_captions)",
            "ScienceQA/train": "ScienceQA (scienceqa.github.io)",
            "share_textvqa/images": SHARE_WEB,
            "web-celebrity/images": SHARE_WEB,
            "web-landmark/images": SHARE_WEB,
            "wikiart/images": SHARE_WEB,
        },
    ),
    DataSet(
        "v1_stage1",
        annotations="pretrain_data/blip_laion_cc_sbu_558k.json",
        source="LLaVA-Pretrain (huggingface.co/datasets/liuhaotian/LLaVA-Pretrain)",
        form="plain",
        images="pretrain_data/images",
        folders={"": LLAVA_PRETRAIN},
    ),
    DataSet(
        "v1_stage2",
        annotations="finetune_data/llava_v1_5_mix665k.json",
        source="LLaVA-Instruct-150K (huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K)",
        form="v1",
        images="finetune_data",
        folders=FINETUNE_IMAGES,
    ),
    _benchmark(
        "gqa",
        "llava_gqa_testdev_balanced.jsonl",
        "images",
        "GQA (cs.stanford.edu/people/dorarad/gqa)",
        also=("testdev_balanced_questions.json",),
    ),
    _benchmark("mmbench", "mmbench_dev_en_20231003.tsv", None, BENCHMARKS, form="table"),
    _benchmark(
        "mme",
        "llava_mme.jsonl",
        "images",
        "MME_Benchmark_release_version of MME (github.com/BradyFU/Awesome-Multimodal-Large-Language-Models)",
    ),
    _benchmark(
        "pope",
        "llava_pope_test.jsonl",
        "val2014",
        "COCO val2014 (cocodataset.org)",
        also=tuple(f"coco/coco_pope_{kind}.json" for kind in ("adversarial", "popular", "random")),
        also_from="POPE, folder output/coco (github.com/AoiDragon/POPE)",
    ),
    _benchmark(
        "sqa",
        "llava_test_CQM-A.json",
        "images/test",
        "ScienceQA (scienceqa.github.io)",
        form="any",
        also=("pid_splits.json", "problems.json"),
    ),
    _benchmark(
        "textvqa",
        "llava_textvqa_val_v051_ocr.jsonl",
        "train_images",
        "TextVQA, train_val_images.zip (textvqa.org)",
        also=("TextVQA_0.5.1_val.json",),
    ),
)
GROUPS: dict[str, tuple[DataSet, ...]] = {
    item.name: (item,) for item in DATA_SETS if not item.name.startswith("benchmark/")
}
GROUPS["benchmark"] = tuple(item for item in DATA_SETS if item.name.startswith("benchmark/"))
GROUPS["all"] = DATA_SETS
