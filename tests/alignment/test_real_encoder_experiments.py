"""The experiments on a real encoder run from end to end on made-up pictures, and go on."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("mmseg")

from PIL import Image

EXPERIMENTS = Path(__file__).resolve().parents[2] / "benchmarks/experiments"
SIDE = 32
NAMES = ("real_table", "real_encoder", "real_neighbours", "layers_real", "layers_real_report",
         "align_real", "align_real_report")  # fmt: skip


@pytest.fixture(scope="module")
def study():
    """The scripts, as modules."""
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope="module")
def sizes(study):
    """A tower of 12 narrow blocks, on pictures of 2 x 2 tokens and a few more."""
    return study.real_encoder.Sizes(
        name="tiny",
        encoder="pe_spatial_t16_512",
        encoder_options={"embed_dim": 32, "num_heads": 2, "mlp_hidden": 48},
        patch_size=16,
        depth=12,
        video_side=SIDE,
        photo_side=SIDE,
        fewest=2,
        epochs={"mIoU": 1, "rmse": 1},
        batch_size=4,
        lrs={"mIoU": (1e-2, 3e-3, 1e-3), "rmse": (1e-2, 3e-3, 1e-3)},
        amp=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two clips, 16 photos of squares, 24 frames of a walk."""
    root, rng = tmp_path_factory.mktemp("real"), np.random.default_rng(0)

    def picture(file: Path, content: np.ndarray) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(content).save(file)

    def scene(x: int) -> tuple[np.ndarray, np.ndarray]:
        image = rng.integers(0, 120, (64, 64, 3), np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        mask[16:48, x : x + 32] = 1
        image[mask == 1] += 130
        return image, mask

    video = root / "real_video"
    for clip in ("a", "b"):
        for t in range(3):
            image, mask = scene(4 + 8 * t)
            picture(video / f"JPEGImages/480p/{clip}/{t:05}.jpg", image)
            picture(video / f"Annotations/480p/{clip}/{t:05}.png", mask)
    lists = video / "ImageSets/2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\nb\n")
    photos = root / "real_photos"
    for part, count in (("train", 10), ("val", 6)):
        images, objects = [], []
        for n in range(count):
            image, mask = scene(n * 2)
            name = f"{part}{n}"
            picture(photos / f"images/{name}.jpg", image)
            picture(photos / f"semantic/{part}/{name}.png", np.where(mask, 3, 7).astype(np.uint8))
            x = n * 2
            images.append({"id": n + 1, "file_name": f"{name}.jpg", "width": 64, "height": 64})
            outline = [x, 16, x + 32, 16, x + 32, 48, x, 48]
            objects.append(
                {"id": n + 1, "image_id": n + 1, "category_id": 1, "bbox": [x, 16, 32, 32],
                 "area": 1024, "iscrowd": 0, "segmentation": [outline]}
            )  # fmt: skip
        content = {
            "images": images, "annotations": objects, "categories": [{"id": 1, "name": "square"}],
        }  # fmt: skip
        file = photos / f"annotations/{part}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    (photos / "semantic/classes.yaml").write_text("classes:\n  3: square\n  7: ground\n")
    for t in range(24):
        image, mask = scene(t)
        picture(root / f"real_depth/frame-{t:06}.color.jpg", image)
        depth = np.where(mask, 1000 + t, 2000).astype(np.uint16)
        picture(root / f"real_depth/frame-{t:06}.depth.png", depth)
    return root


@pytest.fixture(scope="module")
def weights(study, sizes, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "tower.safetensors"
    return study.real_encoder.random_weights(sizes, file, 5)


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def layers(study, sizes, data, weights, out, tmp_path_factory):
    """The table of all layers, and where its work lies."""
    work = tmp_path_factory.mktemp("layers")
    real = study.layers_real
    real.measured(weights, data, work, out, sizes, ["J&F", "knn"])
    return real.measured(weights, data, work, out, sizes, models=[real.MODEL]), work


def test_numbers_belong_to_one_file(study, sizes, data, weights, layers, tmp_path):
    table, work = layers
    model = study.layers_real.MODEL
    (cell,) = table.find(measure=study.real_table.WEIGHTS, model=model)
    assert cell.note == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert table.has(measure=study.real_table.WEIGHTS, model=study.layers_real.RANDOM)
    other = study.real_encoder.random_weights(sizes, tmp_path / "other.safetensors", 6)
    with pytest.raises(ValueError, match=f"numbers of {model} from a file of sha256 {cell.note}"):
        study.layers_real.measured(other, data, work, table.path.parent, sizes, ["knn"])


def forbidden(*args: object, **named: object) -> None:
    raise AssertionError("measured again")


def test_every_measure_has_every_block_and_its_blind_line(study, layers):
    table, _ = layers
    model = study.layers_real.MODEL
    for measure in ("J&F", "mIoU", "knn", "rmse"):
        found = table.find(measure=measure, model=model, unit="all")
        assert [cell.block for cell in found] == list(range(12)), measure
        assert all(np.isfinite(cell.score) for cell in found)
    assert all(table.has(measure=m, model=study.layers_real.RANDOM) for m in ("J&F", "knn"))
    for measure in ("J&F", "mIoU", "knn", "rmse"):
        assert table.has(measure=measure, model="without the picture", unit="all")


def test_means_over_clips_are_those_of_the_rows(study, layers):
    table, _ = layers
    model = study.layers_real.MODEL
    j, f = (table.find(measure=m, model=model, block=3) for m in ("J", "F"))
    (mean,) = table.find(measure="J&F", model=model, block=3, unit="all")
    assert [cell.unit for cell in j] == ["a", "b"]
    assert mean.score == pytest.approx(np.mean([c.score for c in (*j, *f)]), abs=1e-6)
    assert mean.low <= mean.score <= mean.high


def test_neighbours_score_as_the_probe_does(study, layers, sizes, weights):
    """Photo by photo, for intervals, against pe_dense's own probe over all tokens at once."""
    from pe_dense.probing.neighbour_probe import TokenSet, probe_neighbours

    table, work = layers
    encoder = study.real_encoder.built(study.real_encoder.Tower("m", str(weights)), sizes)
    parts = (
        study.real_neighbours.photos(encoder, sizes, work / "photos", part, [5])
        for part in ("train", "val")
    )
    sets = [TokenSet(part.features[0], part.labels_N) for part in parts]
    (cell,) = table.find(measure="knn", model=study.layers_real.MODEL, block=5)
    assert cell.score == pytest.approx(probe_neighbours(*sets, 2, ks=(5,))["knn_5"], abs=1e-6)
    assert cell.low <= cell.score <= cell.high


def test_a_finished_table_is_not_measured_again(
    study, layers, sizes, data, weights, out, monkeypatch
):
    table, work = layers
    for name in ("probed", "clip_means", "copied_masks", "blind_probe"):
        monkeypatch.setattr(study.layers_real, name, forbidden)
    monkeypatch.setattr(study.real_neighbours, "photos", forbidden)
    models = [study.layers_real.MODEL]
    again = study.layers_real.measured(weights, data, work, out, sizes, models=models)
    name = study.real_table._name
    assert sorted(map(name, again.cells)) == sorted(map(name, table.cells))
    assert {name(c): c.score for c in again.cells} == pytest.approx(
        {name(c): c.score for c in table.cells}, abs=1e-6
    )


def test_a_killed_run_goes_on_at_the_next_clip(study, layers, sizes, data, weights, tmp_path):
    table, _ = layers
    model = study.layers_real.MODEL
    tower = study.real_encoder.Tower(model, str(weights))
    found = list(
        study.real_encoder.clips(tower, sizes, data, range(11, 12), tmp_path / "work", ["a"])
    )
    assert [cell.unit for cell in found[0]] == ["b", "b"] and len(found) == 1
    (whole,) = table.find(measure="J", model=model, block=11, unit="b")
    assert found[0][0].score == pytest.approx(whole.score, abs=1e-6)


def test_page_and_figure_of_layers(study, layers, sizes, out):
    table, _ = layers
    study.layers_real_report.write(table, sizes, out)
    page = (out / "layers_real.md").read_text()
    (last,) = table.find(measure="J&F", model=study.layers_real.MODEL, block=11, unit="all")
    assert f"{100 * last.score:.1f} [" in page
    assert (out / "layers_real.png").stat().st_size > 10_000


def test_rows_of_other_sizes_are_refused(study, layers, out):
    with pytest.raises(ValueError, match="holds numbers of 'tiny', not of 'large'"):
        study.real_table.Table(out / "layers_real.csv", "large")


def test_alignment_from_end_to_end(study, sizes, data, weights, tmp_path, monkeypatch):
    align = study.align_real
    training = align.Training(steps=2, batch=4, side=SIDE, points_per_side=4)
    work, out = tmp_path / "work", tmp_path / "out"
    arms = ("both",)
    table = align.measured(weights, data, work, out, sizes, training, [0], arms=arms)
    for arm in arms:
        assert table.has(measure="J&F", model=arm, seed=0, block=11, unit="all"), arm
        assert table.has(measure="knn", model=arm, seed=0, block=11), arm
    study.align_real_report.write(table, sizes, training, out)
    page = (out / "align_real.md").read_text()
    assert "Seeds: 1 of 3, this decides nothing" in page and "It helped" not in page
    assert (out / "align_real.png").stat().st_size > 10_000
    monkeypatch.setattr(align, "request_of", forbidden)
    monkeypatch.setattr(study.real_neighbours, "photos", forbidden)
    again = align.measured(weights, data, work, out, sizes, training, [0], arms=arms)
    assert len(again.cells) == len(table.cells)


def test_another_seed_is_scored_beside_the_first(study, sizes, tmp_path, monkeypatch):
    def scored(tower, sizes, data, blocks, work, done):
        for clip in ("a", "b"):
            if clip not in done:
                cell = study.real_table.Cell(
                    "tiny", "J", tower.name, tower.seed, 11, clip, 0.5 + 0.1 * tower.seed
                )
                yield [cell, dataclasses.replace(cell, measure="F")]

    monkeypatch.setattr(study.layers_real, "clips", scored)
    table = study.real_table.Table(tmp_path / "t.csv", "tiny")
    for seed in (0, 1):
        tower = study.real_encoder.Tower("block", "", seed)
        study.layers_real.score_clips(table, tower, sizes, tmp_path, range(11, 12), tmp_path)
    assert [cell.unit for cell in table.find(measure="J", seed=1)] == ["a", "b"]
    scores = [table.find(measure="J&F", model="block", seed=s)[0].score for s in (0, 1)]
    assert scores == pytest.approx([0.5, 0.6])


def made_up(study: ModuleType, path: Path, gains: dict[str, float], seeds: int) -> object:
    """A table of the last block on eight clips; every arm differs from before by its gain."""
    Cell = study.real_table.Cell
    table = study.real_table.Table(path / "align_real.csv", "tiny")
    cells = []
    every = {"imgfocus_vit_s14": 0.0, "random": -0.3, **gains}
    for model, gain in every.items():
        for seed in range(seeds if model in gains else 1):
            for n in range(8):
                score = 0.6 + gain + 0.001 * (n % 3) + 0.0005 * ((n * 5 + len(model)) % 7)
                for measure in ("J", "F"):
                    cells.append(Cell("tiny", measure, model, seed, 11, f"clip{n}", score))
            cells.append(Cell("tiny", "J&F", model, seed, 11, "all", 0.6 + gain))
    table.add(cells)
    return table


@pytest.mark.parametrize(
    ("gains", "seeds", "words"),
    [
        ({"block": 0.1, "last": 0.0, "shuffled": 0.02}, 3, "It helped."),
        ({"block": 0.1, "last": 0.1, "shuffled": 0.02}, 3, "did not help"),
        ({"block": 0.1, "last": 0.0}, 3, "did not help"),  # a control lacks
        ({"block": -0.1, "last": -0.2, "shuffled": -0.2}, 3, "did not help"),
        ({"block": 0.1, "last": 0.0, "shuffled": 0.02}, 2, "decides nothing"),
    ],
)
def test_helped_is_said_by_the_rule_alone(study, sizes, tmp_path, gains, seeds, words):
    table = made_up(study, tmp_path, gains, seeds)
    said = study.align_real_report.verdict(table, "block", list(range(seeds)), 11)
    assert words in said
    assert ("It helped." in said) == (words == "It helped.")


def test_teacher_is_an_inner_block(study, sizes, tmp_path):
    near = study.real_neighbours
    table = study.real_table.Table(tmp_path / "t.csv", "tiny")
    cell = study.real_table.Cell("tiny", near.CHOICE, "m", 0, 0, "all", 0.5)
    scores = [0.1] * 7 + [0.4, 0.3, 0.2, 0.1, 0.9]
    table.add([dataclasses.replace(cell, block=b, score=s) for b, s in enumerate(scores)])
    tower = study.real_encoder.Tower("m", "random")
    assert near.chosen_block(table, tower, sizes, tmp_path) == 7


def test_teacher_of_another_picture(study, sizes, weights):
    import torch
    from mmengine.registry import MODELS

    study.align_real.register_other_picture()
    config = {
        "encoder": sizes.encoder, "weights": str(weights), "layer": 3,
        "encoder_options": dict(sizes.encoder_options),
    }  # fmt: skip
    own = MODELS.build({"type": "EncoderTeacher", **config})
    other = MODELS.build({"type": "OtherPictureTeacher", **config})
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other(images, (2, 2)), own(images, (2, 2)).roll(1, 0))


def test_committed_pages_are_what_their_tables_say(study):
    real, training = study.real_encoder.REAL, study.align_real.Training()
    layers = study.real_table.Table(EXPERIMENTS / "layers_real.csv", real.name)
    page = study.layers_real_report.page(layers, real)
    assert page == (EXPERIMENTS / "layers_real.md").read_text()
    aligned = study.real_table.Table(EXPERIMENTS / "align_real.csv", real.name)
    page = study.align_real_report.page(aligned, real, training)
    assert page == (EXPERIMENTS / "align_real.md").read_text()
