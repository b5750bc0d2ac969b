"""A holdout is whole groups, met as nearly as they allow, the same on every machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from pe_dense.data.holdout import Holdout, HoldoutSubset, hold_out, is_held_out, toss
from pe_dense.data.image_groups import cityscapes_city, group_names, kitti_drive, nyu_scene
from pe_dense.run import recording

LISTS = json.loads((Path(__file__).parents[1] / "golden/list_groups.json").read_text())


class Infos:
    """A data set of samples that nobody reads."""

    metainfo = {"classes": ("a",)}  # noqa: RUF012

    def __init__(self, infos: list[dict], data_root: str = "") -> None:
        self.infos, self.data_root = infos, data_root

    def full_init(self) -> None:
        pass

    def __len__(self) -> int:
        return len(self.infos)

    def get_data_info(self, index: int) -> dict:
        return dict(self.infos[index])


def images(groups: dict[str, int]) -> list[str]:
    return [name for name, count in groups.items() for _ in range(count)]


def sizes_held(groups: list[str], found: Holdout) -> dict[str, int]:
    held = [groups[i] for i in found.held]
    return {name: held.count(name) for name in set(held)}


# ---- the published lists -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "group_of", "num_held", "num_groups"),
    [
        ("kitti", lambda drive: kitti_drive(f"2011/{drive}/image_02/data/1.png"), 2313, (11, 33)),
        ("nyu", lambda folder: nyu_scene(f"{folder}/rgb_00045.jpg"), 2424, (36, 249)),
        ("cityscapes", lambda c: cityscapes_city(f"{c}/{c}_000000_000019_x.png"), 279, (3, 18)),
    ],
)
def test_published_lists_meet_a_tenth_in_whole_groups(name, group_of, num_held, num_groups) -> None:
    folders = images(LISTS[name]["sizes"])
    groups = [group_of(folder) for folder in folders]
    found = hold_out(groups, 0.1)
    assert len(groups) == LISTS[name]["images"] == len(found.held) + len(found.train)
    assert len(found.held) == num_held and abs(found.share - 0.1) <= 0.01
    assert (found.num_held_groups, found.num_groups) == num_groups
    assert not {groups[i] for i in found.held} & {groups[i] for i in found.train}
    # near copies by what the folders themselves say: a scene or drive without what splits it
    place = [re.sub(r"(\d{4})[a-z]$", r"\1", folder) for folder in folders]
    assert not {place[i] for i in found.held} & {place[i] for i in found.train}
    if name != "cityscapes":
        assert max(sizes_held(groups, found).values()) <= num_held / 4  # none decides alone


def test_cities_that_are_held_out_show_every_class() -> None:
    groups = images(LISTS["cityscapes"]["sizes"])
    cities = sizes_held(groups, hold_out(groups, 0.1))
    of_city = LISTS["cityscapes classes"]["sizes"]
    assert len(of_city["ulm"]) == 19
    assert all(sum(of_city[city][k] for city in cities) > 0 for k in range(19))


def test_the_test_list_of_nyu_has_16_types_of_room() -> None:
    """As `NYUDepthDataset` says; they are the clusters of its intervals."""
    sizes = LISTS["nyu test"]["sizes"]
    assert {nyu_scene(f"{folder}/rgb_00045.jpg") for folder in sizes} == set(sizes)
    assert (len(sizes), sum(sizes.values()), max(sizes.values())) == (16, 654, 191)


# ---- the rule ------------------------------------------------------------------------------------


def test_images_alone_meet_the_share_exactly_and_no_folder_changes_them() -> None:
    names = [f"{i:05d}.jpg" for i in range(2000)]
    infos = [{"img_path": f"/here/{name}"} for name in names]
    moved = [{"img_path": f"D:\\there\\{name}"} for name in reversed(names)]
    found = HoldoutSubset(Infos(infos), "holdout", group="image")
    assert len(found) == 200 and found.indices == found.holdout.held
    there = HoldoutSubset(Infos(moved), "holdout", group="image")
    assert {1999 - i for i in there.indices} == set(found.indices)
    kept = HoldoutSubset(Infos(infos), "train", group="image")
    assert sorted(kept.indices + found.indices) == list(range(2000))


def test_the_order_of_the_list_does_not_matter() -> None:
    groups = images({f"drive{i}": 5 + 3 * i for i in range(20)})
    found = sizes_held(groups, hold_out(groups, 0.2))
    assert found == sizes_held(groups[::-1], hold_out(groups[::-1], 0.2))


def test_a_giant_is_passed_over_where_others_can_meet_the_share() -> None:
    for giant in [f"giant{i}" for i in range(8)]:  # whatever its place in the order
        groups = images({giant: 100, **{f"s{i}": 9 for i in range(100)}})
        found = sizes_held(groups, hold_out(groups, 0.1))
        assert giant not in found and sum(found.values()) == 99


def test_a_large_group_is_taken_where_nothing_else_meets_the_share() -> None:
    groups = images({"a": 100, "b": 400, "c": 500})
    assert sizes_held(groups, hold_out(groups, 0.1)) == {"a": 100}


def test_one_group_more_is_taken_if_that_comes_nearer() -> None:
    groups = images({f"s{i}": 21 for i in range(20)})  # 42 are wanted of 420: two, not one
    assert len(hold_out(groups, 0.1).held) == 42
    groups = images({f"s{i}": 22 for i in range(10)} | {"rest": 430})  # 65 of 650: three are 66
    assert len(hold_out(groups, 0.1).held) == 66


@pytest.mark.parametrize(
    ("sizes", "real"),
    [({"a": 10}, "0.00%"), ({"a": 50, "b": 50}, "0.00%"), ({"a": 13, "b": 87}, "13.00%"), ({}, "")],
)
def test_a_share_that_is_off_is_refused_with_the_real_one(sizes, real) -> None:
    with pytest.raises(ValueError, match=f"10.00% comes to .*{real} in whole groups .* use more"):
        hold_out(images(sizes), 0.1)


def test_the_refusal_names_a_share_that_can_be_met() -> None:
    with pytest.raises(ValueError, match=r"groups can meet, such as 0\.25"):
        hold_out(images(dict.fromkeys("abcd", 25)), 0.1)
    assert len(hold_out(images(dict.fromkeys("abcd", 25)), 0.25).held) == 25


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_is_between_0_and_1(share) -> None:
    for split in (hold_out, toss):
        with pytest.raises(ValueError, match="not between 0 and 1"):
            split(["a", "b"], share)


def test_what_was_held_out_in_words() -> None:
    groups = images({f"s{i}": 10 for i in range(20)})
    assert hold_out(groups, 0.1, "sequence").in_words() == (
        "20 of 200 training images (10.00 %), 2 of 20 sequences"
    )
    assert hold_out(groups, 0.1, "([a-z]+)").in_words().endswith("2 of 20 groups")
    alone = hold_out([f"{i}.jpg" for i in range(40)], 0.1, "image")
    assert alone.in_words() == "4 of 40 training images (10.00 %), each for itself"


# ---- names of groups -----------------------------------------------------------------------------


def test_rules_are_pure_functions_of_paths() -> None:
    assert nyu_scene("/kitchen_0029a/rgb_00045.jpg") == nyu_scene("/kitchen_0029c/rgb_00001.jpg")
    assert nyu_scene("nyu_office_0/rgb_1.jpg") != nyu_scene("nyu_office_1/rgb_1.jpg")
    assert cityscapes_city("C:\\train\\ulm\\ulm_000021_000019_leftImg8bit.png") == "ulm"
    assert cityscapes_city("picture.png") is None and kitti_drive("picture.png") is None
    infos = [{"img_path": f"/data/clip_1/set_{i}/7.jpg"} for i in (1, 1, 2)]
    assert group_names(infos, "([a-z]+)_([0-9])/", "/data/clip_1") == ["set/1", "set/1", "set/2"]


LAYOUTS = ("images/{}.jpg", "train/{}.jpg", "images/train/{}.png", "JPEGImages/{}.JPEG")


@pytest.mark.parametrize("pictures", [range(60), [f"clip_{k}/frame_{t}" for k in range(10)
                                                  for t in range(6)]])  # fmt: skip
def test_the_layout_of_a_folder_changes_nothing_of_what_is_held_out(pictures) -> None:
    names = [str(name) for name in pictures]
    held = []
    for layout in LAYOUTS:
        infos = [{"img_path": f"/data/{layout.format(name)}"} for name in names]
        groups = group_names(infos, "found", "/data")
        held.append([names[i] for i in hold_out(groups, 0.1).held])
    assert len(held[0]) == 6 and held[1:] == held[:1] * (len(LAYOUTS) - 1)


def test_the_same_name_with_two_suffixes_is_two_pictures() -> None:
    infos = [{"img_path": f"d/images/{name}"} for name in ("a.jpg", "a.png", "b.jpg")]
    assert group_names(infos, "found", "d") == ["a.jpg", "a.png", "b.jpg"]


@pytest.mark.parametrize(
    ("rule", "infos", "message"),
    [
        ("sequence", [{"img_path": "a.jpg", "sequence": None}], "a.jpg has none"),
        ("image", [{"img_path": f"{c}/1.jpg"} for c in "ab"], r"2 are called 1\.jpg.*pattern"),
        ("image", [{"img_path": f"{c}.jpg", "sequence": "s"} for c in "ab"], "of 's' and look"),
        ("(", [{"img_path": "a.jpg"}], "nor a regular expression"),
        ("scene", [{"img_path": "a.jpg"}], "no brackets"),
        ("(clip_[0-9]+)/", [{"img_path": "a.jpg"}], r"matches nothing in a\.jpg"),
        ("(a)|(b)", [{"img_path": "a.jpg"}], r"matches nothing in a\.jpg"),
    ],
)
def test_rules_that_cannot_be_right_are_refused(rule, infos, message) -> None:
    with pytest.raises(ValueError, match=message):
        group_names(infos, rule)


def test_a_record_says_what_was_held_out() -> None:
    """`record_of` writes it into the notes, where the leaderboard finds it."""
    frames = [{"img_path": f"{i}.jpg", "sequence": f"scene{i // 10}"} for i in range(400)]
    held = HoldoutSubset(Infos(frames), "holdout", group="sequence")
    both = SimpleNamespace(datasets=[held, Infos(frames)])
    words = "held out: 40 of 400 training images (10.00 %), 4 of 40 sequences"
    assert recording.note_on_holdout(both) == words
    assert recording.note_on_holdout(Infos(frames)) is None


# ---- as published before -----------------------------------------------------------------------


def test_without_a_rule_every_image_is_tossed_for_as_published() -> None:
    names = [f"images/{i:05d}.jpg" for i in range(2000)]
    found = toss(names)
    assert sorted(found.train + found.held) == list(range(2000)) and found.held[:3] == [13, 21, 24]
    assert "each for itself" in found.in_words()
    assert is_held_out("a\\b\\7.jpg") == is_held_out("7.jpg")
    part = HoldoutSubset(Infos([{"img_path": f"/other/{name}"} for name in names]), "holdout")
    assert part.indices == found.held
    with pytest.raises(ValueError, match="leaves 0 of 0 images"):
        toss([])


def test_a_toss_is_refused_where_images_share_a_sequence() -> None:
    frames = [{"img_path": f"{i}.jpg", "sequence": f"scene{i // 10}"} for i in range(400)]
    with pytest.raises(
        ValueError, match="400 of them are of 40 sequences .* holdout_group=sequence"
    ):
        HoldoutSubset(Infos(frames), "holdout")
    held = HoldoutSubset(Infos(frames), "holdout", group="sequence")
    assert len(held) == 40 and held.holdout.num_held_groups == 4


def test_names_that_are_no_text_are_held_out_like_others() -> None:
    """A file name in Latin-1 on Linux comes as a lone surrogate."""
    names = [f"stra\udcdfe_{i}" for i in range(40)]
    assert len(hold_out(names).held) == 4
    assert 0 < len(toss([f"{name}.jpg" for name in names], 0.5).held) < 40


def test_accents_in_two_spellings_are_one_group() -> None:
    infos = [{"img_path": f"d/{name}/1.jpg"} for name in ("caf\u00e9", "cafe\u0301")]
    assert len(set(group_names(infos, "([^/]+)/", "d"))) == 1
    infos = [dict(info, sequence=info["img_path"][2:-6]) for info in infos]
    assert set(group_names(infos, "sequence")) == {"caf\u00e9"}


@pytest.mark.parametrize(
    ("path", "rule", "message"),
    [
        ("d/1.jpg", "([a-z]*)[0-9]", r"matches an empty name in 1\.jpg; correct the pattern"),
        ("/home/me2/x/1.jpg", "([a-z]+[0-9])/", "lies outside data_root d, .*of this machine"),
    ],
)
def test_patterns_that_name_nothing_or_the_machine(path, rule, message) -> None:
    with pytest.raises(ValueError, match=message):
        group_names([{"img_path": path}], rule, "d")
