"""Data sets of a config are found inside wrappers, loader by loader."""

from __future__ import annotations

import pytest
from mmengine.registry import Registry

from pe_dense.data.config_datasets import (
    datasets_of,
    holdouts_of,
    published_classes,
    require_published_classes,
)

A, B, C = (dict(type=name, ann_file=f"{name}.json") for name in "ABC")


def test_wrappers_held_out_parts_and_loaders_that_are_none() -> None:
    held = dict(type="HoldoutSubset", part="holdout", dataset=dict(type="Repeat", dataset=A))
    kept = dict(type="HoldoutSubset", part="train", dataset=B)
    cfg = dict(
        train_dataloader=dict(dataset=dict(type="Concat", datasets=[held, kept])),
        val_dataloader=None,
        test_dataloader=dict(dataset=C),
    )
    found = list(datasets_of(cfg, ("test", "val", "train")))
    assert found == [("test", C, False), ("train", A, True), ("train", B, False)]
    assert list(datasets_of(cfg, ("val",))) == []


def test_parts_of_a_holdout_are_split_alike() -> None:
    def cfg(**held) -> dict:
        kept = dict(type="HoldoutSubset", part="train", group="image", dataset=A)
        part = {**kept, "part": "holdout", **held}
        both = dict(type="Concat", datasets=[dict(type="Repeat", dataset=part), B])
        return dict(train_dataloader=dict(dataset=kept), test_dataloader=dict(dataset=both))

    assert [part["part"] for part in holdouts_of(cfg())] == ["train", "holdout"]
    assert holdouts_of(dict(train_dataloader=dict(dataset=A), val_dataloader=None)) == []
    assert len(holdouts_of(cfg(share=0.1))) == 2  # said or not
    for name, value in (("share", 0.2), ("group", "sequence")):
        with pytest.raises(ValueError, match=f"{name}=.* another with {value!r}, .*holdout_{name}"):
            holdouts_of(cfg(**{name: value}))


def test_both_parts_of_a_holdout_come_from_one_list() -> None:
    """Of another list other groups are held out, which can be groups that are trained on."""

    def cfg(*held: dict) -> dict:
        parts = [dict(type="HoldoutSubset", part="holdout", dataset=one) for one in held]
        kept = [dict(type="HoldoutSubset", part="train", dataset=one) for one in (A, B)]
        return dict(
            train_dataloader=dict(dataset=dict(type="Concat", datasets=kept)),
            test_dataloader=dict(dataset=dict(type="Concat", datasets=parts)),
        )

    assert len(holdouts_of(cfg(B, dict(A, pipeline=[1], test_mode=True)))) == 4
    words = "is taken from a list with ann_file='C.json', but .* trained on has ann_file='A.json'"
    with pytest.raises(ValueError, match=words):
        holdouts_of(cfg(A, dict(A, ann_file="C.json")))
    with pytest.raises(ValueError, match="indices=9, but .* indices=None, .*give both parts"):
        holdouts_of(cfg(dict(A, indices=9)))


def test_classes_of_published_sets() -> None:
    registry = Registry("sets")

    @registry.register_module()
    class Shapes:
        METAINFO = {"classes": ("disc", "box")}  # noqa: RUF012

    known = published_classes(registry, "Shapes", "a library", "use Shapes")
    assert known == {"classes": ["disc", "box"], "num_classes": 2}
    with pytest.raises(ValueError, match="'Discs' is no data set .* in a library; use Shapes"):
        published_classes(registry, "Discs", "a library", "use Shapes")
    cfg = dict(dataset_type="Shapes", classes=("disc", "box"))
    require_published_classes(cfg, known["classes"], "metainfo")
    with pytest.raises(ValueError, match="1 names, but Shapes reads its own 2.* metainfo"):
        require_published_classes(dict(cfg, classes=["disc"]), known["classes"], "metainfo")
