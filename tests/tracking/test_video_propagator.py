"""Videos from files to scores: against the plain loop, and runs that are stopped or disturbed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmengine")

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from video_folders import SIZE, ColourEncoder, moving_squares, save_indexed, save_split, save_video

import pe_dense.tracking  # noqa: F401 (registers)
from pe_dense.tracking.davis_dataset import DavisVideos
from pe_dense.tracking.frames import read_frame, read_label_map
from pe_dense.tracking.label_maps import label_map_from_soft, labels_on_grid
from pe_dense.tracking.label_propagation import propagate_labels
from pe_dense.tracking.layer_choice import best_of
from pe_dense.tracking.object_statistics import object_statistics
from pe_dense.tracking.reference import PropagationSetting
from pe_dense.tracking.region_and_boundary import sequence_statistics, video_scores
from pe_dense.tracking.video_propagator import (
    VideoPropagator,
    frames_together,
    reading_threads,
)
from pe_dense.tracking.vos_metric import VideoObjectMetric

NEAR = dict(last_frames=2, radius=3, topk=1, temperature=0.1)
BLURRED = dict(last_frames=1, radius=0, topk=40, temperature=1.0)


def propagator(**options) -> VideoPropagator:
    options = {
        "settings": [NEAR], "layers": [0], "size_rule": "dinov3", "short_side": SIZE // 4,
        "upsample": "image", "stretch": False, "batch_size": 3, **options,
    }  # fmt: skip
    return VideoPropagator(ColourEncoder(), 2, **options)


def items(root: Path, **options) -> list[dict]:
    data = DavisVideos(str(root), **{"resolution": "480p", **options})
    return [data[i]["data_samples"].metainfo for i in range(len(data))]


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    root = tmp_path / "davis"
    save_video(root, "one", moving_squares(6, {1: 0, 2: 0}))
    save_video(root, "three", moving_squares(5, {1: 0, 2: 0, 3: 0}))
    save_video(root, "two", moving_squares(4, {1: 0}))
    save_split(root, "train", ["two"])
    save_split(root, "val", ["one", "three"])
    return root


def scores_of(model: VideoPropagator, root: Path, metric: VideoObjectMetric, **data) -> dict:
    """What Runner.test() gives."""
    runner = Runner(
        model=model,
        work_dir=str(root.parent / "work"),
        test_dataloader=dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            collate_fn=dict(type="pseudo_collate"),
            dataset=dict(type="DavisVideos", data_root=str(root), resolution="480p", **data),
        ),
        test_cfg=dict(type="TestLoop"),
        test_evaluator=Evaluator(metric),
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
        experiment_name=f"t{abs(hash((str(root), str(data), id(model))))}",
        log_level="ERROR",
    )
    return runner.test()


# One video


def plain_statistics(item: dict, block: int, setting: dict, upsample: str) -> np.ndarray:
    """(K, 6), frame by frame and with whole label maps, by the parts that are tested elsewhere."""
    encoder = ColourEncoder()
    maps = []
    for path in item["frame_paths"]:
        image = torch.from_numpy(read_frame(Path(path)) / 255).float().permute(2, 0, 1)
        maps.append(encoder.forward_intermediates(image[None], [block])[0][0].permute(1, 2, 0))
    masks = [read_label_map(Path(path)) for path in item["mask_paths"]]
    labels = labels_on_grid(masks[0], maps[0].shape[:2])
    found = [masks[0]]
    for (soft,) in propagate_labels(iter(maps), labels, [PropagationSetting(**setting)]):
        patch = 4 if upsample == "patch" else None
        rule = patch, upsample != "image", upsample == "nearest"
        found.append(label_map_from_soft(soft, masks[0].shape, *rule))
    scores = video_scores(masks, found)
    return np.concatenate([sequence_statistics(scores.j_KT), sequence_statistics(scores.f_KT)], 1)


@pytest.mark.parametrize("upsample", ["image", "patch", "nearest"])
def test_all_layers_and_settings_as_each_alone(davis: Path, upsample: str) -> None:
    item = items(davis)[1]
    model = propagator(
        layers="all", settings=[NEAR, BLURRED], upsample=upsample, stretch=upsample != "image"
    )
    found = model.propagate(item)
    assert model.backbone.frames == 5  # one pass
    assert found["layers"] == (0, 1) and found["settings"] == (0, 1)
    assert found["objects"] == ("1", "2", "3") and not found["chosen"]
    assert found["statistics"].shape == (2, 2, 3, 6)
    for block in (0, 1):
        for s, setting in enumerate((NEAR, BLURRED)):
            expected = plain_statistics(item, block, setting, upsample)
            assert found["statistics"][block, s] == pytest.approx(expected, abs=1e-12)
    # Colours tell the objects apart, and a blind layer does not: the numbers are about something.
    j_and_f = found["statistics"][:, 0, :, [0, 3]].mean(axis=(0, 2))
    assert j_and_f[0] > 0.8 > 0.5 > j_and_f[1]


@pytest.mark.parametrize(
    ("upsample", "sampling"), [("patch", "pillow"), ("image", "torch"), ("nearest", "torch")]
)
def test_first_masks_are_sampled_as_by_the_source_of_the_output_rule(
    davis: Path, monkeypatch: pytest.MonkeyPatch, upsample: str, sampling: str
) -> None:
    from pe_dense.tracking import annotated_video

    seen = []

    def sampled(*args):
        seen.append(args[3])
        return labels_on_grid(*args)

    monkeypatch.setattr(annotated_video, "labels_on_grid", sampled)
    propagator(upsample=upsample, stretch=False).propagate(items(davis)[2])
    assert seen == [sampling]


def test_results_do_not_depend_on_batches_and_threads(davis: Path) -> None:
    item = items(davis)[0]
    first = propagator(batch_size=1, threads=1).propagate(item)["statistics"]
    again = propagator(batch_size=4, threads=3).propagate(item)["statistics"]
    assert np.array_equal(first, again)


def test_a_gpu_gets_full_batches_and_the_processors_read() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [frames_together(cpu, tokens) for tokens in (1, 1560, 10**6)] == [4, 4, 4]
    assert [frames_together(gpu, tokens) for tokens in (1560, 6240, 10**6)] == [10, 4, 4]
    assert reading_threads(cpu) == 2 <= reading_threads(gpu) <= 8


def test_davis_ignores_objects_that_appear_later(davis: Path) -> None:
    before = propagator().propagate(items(davis)[2])
    masks = davis / "Annotations" / "480p" / "two"
    for path in sorted(masks.glob("*.png"))[2:]:
        labels = read_label_map(path).copy()
        labels[40:46, 40:46] = 3
        save_indexed(path, labels)
    after = propagator().propagate(items(davis)[2])
    assert after["objects"] == before["objects"] == ("1",)
    assert np.array_equal(after["statistics"], before["statistics"])


def test_youtube_gives_and_scores_objects_from_where_they_appear(tmp_path: Path) -> None:
    maps = moving_squares(7, {1: 0, 2: 2, 3: 6})
    save_video(tmp_path, "a", maps, resolution="", every=2)
    (item,) = items(tmp_path, style="youtube", resolution=None)
    results = tmp_path / "results"
    model = propagator(results_dir=str(results))
    found = model.propagate(item)
    assert found["objects"] == ("1", "2")  # 3 appears in the last annotated frame
    written = [read_label_map(p) for p in sorted((results / "a").glob("*.png"))]
    assert len(written) == 7
    assert not (written[1] == 2).any()
    for t in range(2, 7):
        own, right = written[t] == 2, maps[t] == 2
        assert (own & right).sum() / (own | right).sum() > 0.8
    # By hand: object 1 is scored in frames 2, 4, 6, object 2 in frames 4 and 6.
    for k, frames in ((1, (2, 4, 6)), (2, (4, 6))):
        ious = [
            ((written[t] == k) & (maps[t] == k)).sum() / ((written[t] == k) | (maps[t] == k)).sum()
            for t in frames
        ]
        assert found["statistics"][0, 0, k - 1, 0] == pytest.approx(np.mean(ious), abs=1e-12)


def test_videos_without_masks_to_score_are_only_written(davis: Path, tmp_path: Path) -> None:
    for path in sorted((davis / "Annotations" / "480p" / "one").glob("*.png"))[1:]:
        path.unlink()
    results = tmp_path / "results"
    item = items(davis, scored=False)[0]
    found = propagator(results_dir=str(results)).propagate(item)
    assert found["statistics"] is None
    assert sorted(p.name for p in (results / "one").iterdir()) == [f"{t:05d}.png" for t in range(6)]
    metric = VideoObjectMetric("first")
    metric.process(None, [dict(item, **found)])
    assert metric.evaluate(1) == {}
    with pytest.raises(ValueError, match="nothing is written; set results_dir"):
        propagator().propagate(item)


def test_results_of_a_finished_run_are_left_alone(davis: Path, tmp_path: Path) -> None:
    item, results = items(davis, split_file="ImageSets/2017/val.txt")[0], tmp_path / "results"
    for name in ("results", "results-2", "results-3"):
        model = propagator(results_dir=str(results), number_results=True)
        model.propagate(item)
        assert model.written_to == tmp_path / name
    going_on = dict(results_dir=str(results), journal_dir=str(tmp_path / "journal"))
    killed = propagator(**going_on, number_results=True)
    killed.propagate(item)
    again = propagator(**going_on, number_results=True)
    again.propagate(item)
    assert again.written_to == killed.written_to == tmp_path / "results-4"
    assert again.backbone.frames == 0


def test_a_video_of_one_frame_gives_its_first_mask(tmp_path: Path) -> None:
    (mask,) = moving_squares(1, {2: 0})
    mask[:2, :2] = 255
    save_video(tmp_path, "a", [mask])
    results = tmp_path / "results"
    (item,) = items(tmp_path, scored=False)
    assert propagator(results_dir=str(results)).propagate(item)["statistics"] is None
    written = read_label_map(results / "a" / "00000.png")
    assert np.array_equal(written, np.where(mask == 255, 0, mask))


def test_bad_files_of_a_video_are_named(davis: Path) -> None:
    masks, frames = davis / "Annotations" / "480p" / "one", davis / "JPEGImages" / "480p" / "one"
    keep = (masks / "00000.png").read_bytes()
    save_indexed(masks / "00000.png", np.ones((10, 12), np.uint8))
    with pytest.raises(ValueError, match=r"00000\.png has 10 x 12 px, its frame .* 48 x 48"):
        propagator().propagate(items(davis)[0])
    save_indexed(masks / "00000.png", np.zeros((SIZE, SIZE), np.uint8))
    with pytest.raises(ValueError, match=r"00000\.png has no object"):
        propagator().propagate(items(davis)[0])
    (masks / "00000.png").write_bytes(keep)
    save_indexed(masks / "00003.png", np.ones((10, 12), np.uint8))
    with pytest.raises(ValueError, match=r"00003\.png has 10 x 12 px, the first mask .* 48 x 48"):
        propagator().propagate(items(davis)[0])
    (masks / "00003.png").write_bytes(keep)
    Image.new("RGB", (50, 48)).save(frames / "00004.png")
    with pytest.raises(ValueError, match=r"00004\.png has 48 x 50 px, the first frame"):
        propagator().propagate(items(davis)[0])
    (frames / "00004.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"00004\.png cannot be decoded"):
        propagator().propagate(items(davis)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(layers=[2]), "block index 2 is outside"),
        (dict(layers=[0, -2]), "layers is empty or names one twice"),
        (dict(layers="last"), "use 'all', 'middle' or a list"),
        (dict(settings=[]), "settings is empty"),
        (dict(settings=[NEAR, NEAR]), "settings is empty or names one twice"),
        (dict(listed_depth=12), "encoder of 12 blocks, but this one has 2"),
        (dict(upsample="bicubic"), "upsample='bicubic' is unknown"),
        (dict(threads=0), "threads=0 must be at least 1"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        propagator(**options)


def test_it_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match="label propagation is not trained"):
        propagator()(torch.empty(0), [], mode="loss")


# Whole evaluations


def test_selection_uses_the_other_videos_and_runs_the_best_once(davis: Path) -> None:
    model = propagator(layers="all", settings=[BLURRED, NEAR])
    metric = VideoObjectMetric("selected")
    split = dict(
        split_file="ImageSets/2017/val.txt", selection=dict(split_file="ImageSets/2017/train.txt")
    )
    found = scores_of(model, davis, metric, **split)
    summary = metric.summary()
    assert (summary.layer, summary.setting, summary.selected_on) == (0, 1, "select")
    assert (summary.num_videos, summary.num_objects) == (2, 5)
    alone = VideoObjectMetric("first")
    assert scores_of(propagator(), davis, alone, split_file=split["split_file"]) == found
    assert metric.by_layer()["J&F"] == {"0": found["vos/J&F"]}
    assert metric.selection().best_minus_last is None  # the last layer was not run on these videos
    evidence = metric.evidence()
    assert evidence.item_ids == ("one/1", "one/2", "three/1", "three/2", "three/3")
    assert found["vos/J&F"] == pytest.approx((evidence.j_N + evidence.f_N).mean() / 2)
    # A second evaluation of the same model chooses anew.
    assert scores_of(model, davis, VideoObjectMetric("selected"), **split) == found


def test_best_on_the_reported_videos(davis: Path) -> None:
    metric = VideoObjectMetric("best")
    model = propagator(layers=[1, 0], settings=[BLURRED, NEAR])
    scores_of(model, davis, metric)
    summary = metric.summary()
    assert (summary.layer, summary.setting, summary.selected_on) == (0, 1, "val")
    scores = metric.by_setting()
    assert scores.shape == (2, 2) and scores.argmax() == 3
    by_layer = metric.by_layer()["J&F"]
    assert by_layer == {"1": pytest.approx(scores[0, 1]), "0": pytest.approx(scores[1, 1])}
    chosen = metric.selection()
    assert chosen.best_minus_last == pytest.approx(scores[1, 1] - scores[0, 1])
    bounds = chosen.best_minus_last_ci95
    assert bounds.low <= chosen.best_minus_last <= bounds.high
    assert (bounds.unit, bounds.num_units) == ("video", summary.num_videos)
    with pytest.raises(ValueError, match="no video chose layer and setting"):
        scores_of(propagator(), davis, VideoObjectMetric("selected"))


def test_a_killed_run_goes_on_at_the_next_video(davis: Path, tmp_path: Path) -> None:
    folders = dict(journal_dir=str(tmp_path / "journal"), results_dir=str(tmp_path / "results"))
    data = items(davis)
    whole = [propagator().propagate(item) for item in data]
    stopped = propagator(**folders)
    stopped.propagate(data[0])
    model = propagator(**folders)
    again = [model.propagate(item) for item in data]
    assert model.backbone.frames == sum(len(item["frame_paths"]) for item in data[1:])
    for first, second in zip(whole, again, strict=True):
        assert first["objects"] == second["objects"]
        assert np.array_equal(first["statistics"], second["statistics"])
    # A picture that is gone is made again.
    (tmp_path / "results" / "one" / "00002.png").unlink()
    propagator(**folders).propagate(data[0])
    assert (tmp_path / "results" / "one" / "00002.png").is_file()


def test_journals_and_results_of_other_runs_are_refused(davis: Path, tmp_path: Path) -> None:
    item = items(davis)[0]
    journal, results = tmp_path / "journal", tmp_path / "results"
    propagator(journal_dir=str(journal), results_dir=str(results)).propagate(item)
    with pytest.raises(ValueError, match="journal .* belongs to a run with another"):
        propagator(settings=[BLURRED], journal_dir=str(journal)).propagate(item)
    other = propagator(journal_dir=str(journal))
    other.backbone.one.data.mul_(2)
    with pytest.raises(ValueError, match="belongs to a run with another"):
        other.propagate(item)
    with pytest.raises(ValueError, match="results folder .* is not empty"):
        propagator(results_dir=str(results)).propagate(item)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x.png").touch()
    with pytest.raises(ValueError, match="holds files of something else"):
        propagator(journal_dir=str(journal), results_dir=str(tmp_path / "foreign")).propagate(item)
    frame = Path(item["frame_paths"][1])
    frame.write_bytes(frame.read_bytes() + b"x")
    with pytest.raises(ValueError, match="other frames or masks of 'one'"):
        propagator(journal_dir=str(journal)).propagate(item)
    (journal / "one.json").write_text(json.dumps({"key": 1})[:4])
    with pytest.raises(ValueError, match=r"one\.json is broken"):
        propagator(journal_dir=str(journal)).propagate(item)


def test_pictures_need_one_layer_and_setting(davis: Path, tmp_path: Path) -> None:
    model = propagator(layers="all", results_dir=str(tmp_path / "results"))
    with pytest.raises(ValueError, match="takes one layer and setting, not 2 x 1"):
        model.propagate(items(davis)[0])


# Statistics


def test_statistics_leave_frames_out_that_do_not_count() -> None:
    scores = np.full((5, 1, 1, 2, 2), np.nan)
    scores[1:, 0, 0, 0, 0] = [0.2, 0.6, 0.7, 0.9]  # J of the first object
    scores[1:, 0, 0, 0, 1] = [1.0, 1.0, 1.0, 0.0]
    found = object_statistics(scores)
    # quarters of 4 frames end at 1, 2, 3, 4 of 1..4: first (1, 2), last (3, 4)
    expected = [0.6, 0.75, 0.4 - 0.8, 0.75, 0.75, 1.0 - 0.5]
    assert found[0, 0, 0] == pytest.approx(expected)
    assert np.isnan(found[0, 0, 1]).all()


def test_the_first_of_equals_is_best() -> None:
    assert best_of(np.array([[0.1, 0.3], [0.3 + 1e-16, 0.2]])) == (0, 1)
    for bad in (np.zeros((0, 2)), np.array([[np.nan, 1.0]])):
        with pytest.raises(ValueError, match="cannot choose"):
            best_of(bad)
