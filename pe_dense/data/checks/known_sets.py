"""COCO 2017, LVIS v1 and Objects365 v2: files, totals and where they come from; hashes of splits.

Sources: cocodataset.org and the files of COCO 2017; LVIS, arXiv:1908.03195 and lvisdataset.org
(v1); Objects365, ICCV 2019, and objects365.org (v2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pe_dense.data.checks.coco_split import CocoFacts
from pe_dense.data.checks.rules import Fault, Finding, FindingCollector, Rule

PUBLISHED_TOTAL = Rule(
    "published-total", "another number of images or boxes than published",
    "unpack the archives again", "used as they are, which is not the published set",
)  # fmt: skip
OTHER_IDS = Rule(
    "other-category-ids",
    "classes that are not those of the published file",
    "download it again, or use a config for own data",
    "used as it is",
)
NO_FREQUENCY = Rule(
    "no-frequency",
    "classes without a frequency (r, c or f), which LVIS AP needs",
    "download the file again",
)
KNOWN_RULES = (PUBLISHED_TOTAL, OTHER_IDS, NO_FREQUENCY)
_COCO = "http://images.cocodataset.org"
_LVIS = "https://dl.fbaipublicfiles.com/LVIS"
_OBJECTS365 = "https://www.objects365.org"


@dataclass(frozen=True)
class KnownSplit:
    """One split of a published data set.

    Attributes:
        json: Annotation file, below the folder of the data set.
        images: Folder that its images are relative to.
        num_images, num_boxes: What the file holds; None where sources disagree or say nothing.
        json_from: Where the file is to be had.
        images_from: Folder of images -> where it is to be had.
    """

    json: str
    images: str
    num_images: int | None
    num_boxes: int | None
    json_from: str
    images_from: dict[str, str]


@dataclass(frozen=True)
class KnownSet:
    """A published data set.

    Attributes:
        title: Its name.
        naming: As in `read_coco_file`.
        category_ids: The ids of its classes.
        splits: 'train' and 'val'.
        is_certain: Whether other totals than these are a problem, or only a note.
        size_note: What reading it costs.
    """

    title: str
    naming: str
    category_ids: tuple[int, ...]
    splits: dict[str, KnownSplit]
    is_certain: bool = True
    size_note: str = ""


# 1 to 90 without the ten classes that were never released.
COCO_IDS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))

KNOWN_SETS = {
    "coco": KnownSet(
        "COCO 2017",
        "coco",
        COCO_IDS,
        {
            split: KnownSplit(
                f"annotations/instances_{split}2017.json",
                f"{split}2017/",
                num_images,
                num_boxes,
                f"{_COCO}/annotations/annotations_trainval2017.zip",
                {f"{split}2017/": f"{_COCO}/zips/{split}2017.zip"},
            )
            for split, num_images, num_boxes in (
                ("train", 118_287, 860_001),
                ("val", 5_000, 36_781),
            )
        },
        size_note="the training JSON has 450 MB; reading it takes about half a minute",
    ),
    "lvis": KnownSet(
        "LVIS v1",
        "lvis",
        tuple(range(1, 1204)),
        {
            split: KnownSplit(
                f"annotations/lvis_v1_{split}.json",
                "",
                num_images,
                num_boxes,
                f"{_LVIS}/lvis_v1_{split}.json.zip",
                # Most images of val are of COCO's train2017, the others of val2017.
                {f"{name}2017/": f"{_COCO}/zips/{name}2017.zip" for name in folders},
            )
            for split, num_images, num_boxes, folders in (
                ("train", 100_170, 1_270_141, ("train",)),
                ("val", 19_809, 244_707, ("train", "val")),
            )
        },
        size_note="the training JSON has 1.1 GB; reading it takes about a minute",
    ),
    "objects365": KnownSet(
        "Objects365 v2",
        "objects365",
        tuple(range(1, 366)),
        {
            "train": KnownSplit(
                "annotations/zhiyuan_objv2_train_fixmiss.json",
                "train/",
                1_742_289,
                None,
                (
                    f"{_OBJECTS365} (zhiyuan_objv2_train.tar.gz), and then from "
                    "python tools/prepare_data.py objects365 DIR --write-fixmiss"
                ),
                {"train/": f"{_OBJECTS365} (patch0 to patch50)"},
            ),
            "val": KnownSplit(
                "annotations/zhiyuan_objv2_val.json",
                "val/",
                80_000,
                None,
                f"{_OBJECTS365} (zhiyuan_objv2_val.json)",
                {"val/": f"{_OBJECTS365} (patch0 to patch43)"},
            ),
        },
        is_certain=False,
        size_note=(
            "the training JSON has several GB: it is read once, which should take about 10 minutes "
            "and 6 GB of memory (extrapolated from 2 million boxes); training holds all of it, "
            "several times as much"
        ),
    ),
}

# sha256 over labels and pictures of a scored split, as records have it, by task, data set and
# split. None: its files were not at hand where this was written; a record of them has its own.
# Pictures of the mini world are encoded where it is made: these are OpenCV 4.11's and Pillow 13's.
KNOWN_CONTENT: dict[tuple[str, str, str], str | None] = {
    ("depth", "kitti-eigen", "test"): None,
    ("depth", "mini", "val"): "9b47306daa9d58a2c14fec971137cda02b6871bf7c7bfcda7d79a5cccaca2c24",
    ("depth", "mini2", "val"): ("6e9d7557bfeeb634c44c7834314272da5e917db95e818da2395641f57f35a63b"),
    ("depth", "nyu", "test"): None,
    ("depth", "sun-rgbd", "test"): None,
    ("classification", "imagenet", "val"): None,
    ("classification", "mini", "val"): (
        "7bcf3dc1edc5978f49ca490f6c592b9e2f618531b0c2dc11906a730fcc332219"
    ),
    ("detection", "bccd", "val"): (
        "93885e2d9d1cf3917dc5cd48362f01dff9c59a02e952c40db5f820dbcfc6371b"
    ),
    ("detection", "coco", "val"): None,
    ("detection", "lvis", "val"): None,
    ("detection", "mini", "val"): (
        "b03527876642472b2817f4a6023f517242a8f470143a3635183ec03a3d0092f8"
    ),
    ("detection", "mini2", "val"): (
        "8b0b4d6057b7c32189fdc0a76ee0f6843536e94758e5b057d02bbd2538d307db"
    ),
    ("detection", "objects365", "val"): None,
    ("retrieval", "coco", "Karpathy test"): None,
    ("retrieval", "flickr30k", "Karpathy test"): None,
    ("retrieval", "mini", "val"): (
        "b56297e6969e4e502e98fa64be94ed672129e871f75e2792170a18746a9488bb"
    ),
    ("retrieval", "msrvtt", "1k-A test"): None,
    ("segmentation", "ade20k", "val"): None,
    ("segmentation", "cityscapes", "val"): None,
    ("segmentation", "mini", "val"): (
        "661b7834da6a0c8a503153761d035eb88ec0c48e3e130a564f3d4ad4e7d18d11"
    ),
    ("segmentation", "mini2", "val"): (
        "1469582d65c428fdb38f61b5fd3ed30ba0228a14bca4299ac30d61d0a88ecd25"
    ),
    ("segmentation", "voc2012", "val"): None,
    ("tracking", "davis2017", "val"): None,
    ("tracking", "mini", "val"): "8dc06277599a347985ffb91668466a4a5fc81592df2d7a74da81ae852e440ad6",
    ("tracking", "mini2", "train"): (
        "2163c5d5866397bb53a8f6ca3e35d80b5ce2d6e544faf822fe2e66c3d4aa0248"
    ),
    ("tracking", "mini2", "val"): (
        "fefc874896b69d756cf41d18b26070d2540372085ce9e3d6400b27f039677166"
    ),
    ("tracking", "mini-mot", "val"): (
        "7fd859097ea0d7376a19c5d6321ebd0d4431d4455f0c69cca9290c8dbffb7734"
    ),
    ("tracking", "mini2-mot", "val"): (
        "d3c40372904cfb78590f346d42c99283a56d43f292e3fcc74c4f83439a9b271d"
    ),
    ("tracking", "mose", "train, 20 % by hash"): None,
    ("tracking", "mot17", "train, second halves"): None,
    ("tracking", "youtube-vos", "train, 20 % by hash"): None,
    ("zero_shot", "hmdb51", "test 1"): None,
    ("zero_shot", "imagenet", "val"): None,
    ("zero_shot", "imagenet-a", "test"): None,
    ("zero_shot", "imagenet-r", "test"): None,
    ("zero_shot", "imagenet-sketch", "test"): None,
    ("zero_shot", "imagenet-v2", "test"): None,
    ("zero_shot", "kinetics400", "val"): None,
    ("zero_shot", "mini", "val"): (
        "7bcf3dc1edc5978f49ca490f6c592b9e2f618531b0c2dc11906a730fcc332219"
    ),
    ("zero_shot", "objectnet", "test"): None,
    ("zero_shot", "ucf101", "test 1"): None,
}


def known_content(task: str, dataset: str, split: str) -> str | None:
    """The hash of a published split; None where it is not known, or the split is no published one.

    Args:
        task: As a protocol names it.
        dataset: As a protocol names it.
        split: As a protocol names it.
    """
    return KNOWN_CONTENT.get((task, dataset, split))


def total_findings(
    json_file: Path, facts: CocoFacts, known: KnownSet, expected: KnownSplit
) -> list[Finding]:
    """Images, boxes and classes in numbers other than published; LVIS's own fields.

    Args:
        json_file: The annotations of a split.
        facts: What they hold.
        known: What they should be.
        expected: The split of it.
    """
    found = FindingCollector(json_file)
    rule = (
        PUBLISHED_TOTAL
        if known.is_certain
        else replace(PUBLISHED_TOTAL, remedy="", is_problem=False)
    )
    for what, have, should in (
        ("images", facts.num_images, expected.num_images),
        ("boxes", facts.num_annotations, expected.num_boxes),
    ):
        if should is not None and have != should:
            about = "" if known.is_certain else "about "
            value = f"has {have:,} {what}; {known.title} was published with {about}{should:,}"
            found.add(rule, "", value)
    have_ids, should_ids = set(facts.category_ids), set(known.category_ids)
    if have_ids != should_ids:
        lacking, extra = sorted(should_ids - have_ids), sorted(have_ids - should_ids)
        words = [
            f"{word} {', '.join(map(str, ids[:10]))}{' ...' if len(ids) > 10 else ''}"
            for word, ids in (("lacks", lacking), ("has besides", extra))
            if ids
        ]
        found.add(OTHER_IDS, "", f"of {len(should_ids)} category ids {', and '.join(words)}")
    findings = found.findings()
    if known.naming == "lvis" and facts.unrated:
        place = Fault(str(json_file), "", f"has none for {', '.join(facts.unrated[:3])}")
        findings.append(Finding(NO_FREQUENCY, len(facts.unrated), (place,)))
    return findings
