"""The whole probe on a planted case: training, prediction, selection, evidence; bad input."""

import dataclasses

import numpy as np
import pytest
import torch
from planted import CLASSES, PLANTED, batch, probe, scene
from test_head_bank import train_bank

from pe_dense.data.holdout import HoldoutSubset, toss
from pe_dense.pixelwise import upsampled_loss
from pe_dense.pixelwise.banded_inference import BandedLogits, reference_labels
from pe_dense.pixelwise.depth_errors import depth_error_sums
from pe_dense.pixelwise.mean_iou import image_counts
from pe_dense.pixelwise.windows import PixelBox, windows_of
from pe_dense.probing.head_bank import head_settings
from pe_dense.probing.probe_metric import ProbeMetric
from pe_dense.probing.selection import select_heads
from pe_dense.results.record import ProtocolInfo
from pe_dense.results.store import load_records
from pe_dense.run.recording import save_with_evidence

SETTINGS = dict(lrs=(1e-2, 1e-5), weight_decays=(1e-2,), seeds=(0, 1))


@pytest.fixture(scope="module")
def evaluated():
    """A trained probe of all layers and its metric, after 8 held-out and 25 reported images."""
    model = probe(sources="all", **SETTINGS)
    train_bank(model, 30)
    return scored(model, "holdout")


def scored(model, select_on):
    model.eval()
    metric = ProbeMetric("segmentation", 9, "all", **SETTINGS, select_on=select_on)
    metric.dataset_meta = dict(classes=["a", "b", "c"])
    for first, held in ((1000, True), (1008, False), (1016, False), (1024, False)):
        images, samples = batch(range(first, first + 8))
        for sample in samples if held else ():
            sample.set_metainfo({"probe_split": "holdout"})
        model.predict(images, samples)
        metric.process(None, [sample.to_dict() for sample in samples])
    return metric, metric.compute_metrics(metric.results), model


def test_the_planted_layer_is_found_with_an_interval(evaluated) -> None:
    metric, scores, _ = evaluated
    summary = metric.summary()
    assert summary.source == str(PLANTED) and summary.selected_on == "holdout"
    assert summary.lr == 1e-2
    assert [choice.source for choice in summary.by_seed] == [str(PLANTED)] * 2
    for neighbour in (PLANTED - 1, PLANTED + 1):
        assert metric.difference(str(PLANTED), str(neighbour)).low > 0
    gap = summary.best_minus_last
    assert summary.last == "8" and 0 < gap.low <= gap.difference <= gap.high
    by_layer = metric.by_layer()["mIoU"]
    assert list(by_layer) == [str(i) for i in range(9)]
    assert by_layer[str(PLANTED)] == scores["mIoU"] == metric.evidence().metrics()["mIoU"]
    assert gap.difference == pytest.approx(by_layer["7"] - by_layer["8"])
    assert metric.evidence().num_items == 24  # the holdout is not reported
    assert set(metric.by_layer()) >= {"mIoU", "aAcc", "mAcc", "IoU/a"}


def test_each_seed_has_its_own_curve_and_gap(evaluated) -> None:
    """Against a metric that sees one seed alone, under the setting that all of them chose."""
    together = evaluated[0]
    chosen = together.summary()
    curves = {}
    for e, seed in enumerate(SETTINGS["seeds"]):
        alone = ProbeMetric(
            "segmentation", 9, "all", lrs=[chosen.lr], weight_decays=[chosen.weight_decay]
        )
        alone.dataset_meta = together.dataset_meta
        for name, held, counts, *_ in together.results:  # heads: lr 1e-2 of each seed, lr 1e-5 ...
            meta = dict(img_path=name, probe_counts=counts[:, e : e + 1])
            alone.process(None, [meta | ({"probe_split": "holdout"} if held else {})])
        alone.compute_metrics(alone.results)
        of_seed, expected = together.by_layer(seed), alone.by_layer()
        assert of_seed["mIoU"][str(PLANTED)] == expected["mIoU"][str(PLANTED)]
        assert together.selection(seed).best_minus_last == alone.selection().best_minus_last
        interval = together.selection(seed).best_minus_last_ci95
        assert interval == alone.selection().best_minus_last_ci95
        assert together.evidence_by_seed()[seed].metrics() == alone.evidence().metrics()
        curves[seed] = of_seed["mIoU"]
    assert curves[0] != curves[1]
    assert together.by_layer() == together.by_layer(0)
    with pytest.raises(ValueError, match="seed 5 was not probed; use one of 0, 1"):
        together.by_layer(5)


def test_records_of_seeds_differ_in_curve_and_gap(evaluated, tmp_path) -> None:
    metric, scores, _ = evaluated
    like = next(r for r in load_records("benchmarks/records") if r.protocol.id == "mini-depth")
    protocol = ProtocolInfo("planted", 1, "mIoU", True, "0" * 64)
    record = dataclasses.replace(
        like, task="segmentation", protocol=protocol, scores=scores, ci95=None, evidence=None
    )
    save_with_evidence(record, [metric], tmp_path, supersede=False)
    first, second = load_records(tmp_path)
    assert (first.seed, second.seed) == (0, 1)
    for found in (first, second):
        curve, score = found.by_layer["mIoU"], found.scores["mIoU"]
        assert curve[str(PLANTED)] == score
        assert found.selection.best_minus_last == pytest.approx(score - curve["8"])
    assert first.by_layer != second.by_layer
    assert first.selection.best_minus_last_ci95 != second.selection.best_minus_last_ci95


def test_concatenations_are_in_the_scores_by_layer() -> None:
    heads = dict(lrs=[1e-2], weight_decays=[1e-2], seeds=[0])
    model = probe(sources=[7, [6, 7], 8], **heads).eval()
    metric = ProbeMetric("segmentation", 9, [7, [6, 7], 8], **heads)
    metric.dataset_meta = dict(classes=["a", "b", "c"])
    for first, held in ((1000, True), (1008, False)):
        images, samples = batch(range(first, first + 8))
        for sample in samples if held else ():
            sample.set_metainfo({"probe_split": "holdout"})
        model.predict(images, samples)
        metric.process(None, [sample.to_dict() for sample in samples])
    metric.compute_metrics(metric.results)
    assert list(metric.by_layer()["mIoU"]) == ["7", "6+7", "8"]
    assert metric.selection().best_minus_last is not None


def test_counts_are_kept_small_and_summed_wide(evaluated) -> None:
    """Billions of pixels in all, of which no image has more than 32 bits hold."""
    metric = evaluated[0]
    assert {row[2].dtype for row in metric.results} == {np.dtype(np.int32)}
    large = ProbeMetric("segmentation", 9, "all", **SETTINGS)
    large.dataset_meta = metric.dataset_meta
    for name, held, counts, *_ in metric.results:
        meta = dict(img_path=name, probe_counts=counts.astype(np.int64) * 500_000)
        large.process(None, [meta | ({"probe_split": "holdout"} if held else {})])
    assert large.compute_metrics(large.results) == pytest.approx(metric.evidence().metrics())


def test_selection_on_reported_images_is_labelled(evaluated) -> None:
    metric, _, _ = scored(evaluated[2], "val")
    assert metric.summary().selected_on == "val"


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_counts_are_those_of_upsampled_logits(evaluated, mode) -> None:
    model = evaluated[2]
    model.test_cfg = dict(mode=mode, crop_size=(24, 24), stride=(8, 8), window_batch=3)
    images, samples = batch([1, 2])
    model.predict(images, samples)
    model.test_cfg = {}
    windows = windows_of(dict(mode=mode, crop_size=(24, 24), stride=(8, 8)), (32, 32))
    for s, p in ((7, 0), (2, 3)):
        with torch.no_grad():
            logits = [model.token_logits(images[(..., *w.slices)])[s][:, p] for w in windows]
        for b, sample in enumerate(samples):
            labels = reference_labels([of[b] for of in logits], windows, (32, 32), (32, 32))
            expected = image_counts(labels.numpy(), sample.gt_sem_seg.data[0].numpy(), CLASSES)
            assert np.array_equal(sample.probe_counts[s, p], expected)


def test_a_batch_of_several_sizes_counts_what_each_image_counts_alone() -> None:
    model = probe(data_preprocessor=dict(type="mmseg.SegDataPreProcessor")).eval()
    made = [scene(i, size) for i, size in ((1, 32), (2, 16), (3, 32))]
    together = model.test_step(dict(inputs=[x for x, _ in made], data_samples=[s for _, s in made]))
    for (image, sample), mine in zip(made, together, strict=True):
        (known,) = model.val_step(dict(inputs=[image], data_samples=[sample]))
        assert mine.img_path == known.img_path
        assert torch.equal(mine.probe_counts, known.probe_counts)


def test_bad_probes_are_refused() -> None:
    with pytest.raises(ValueError, match="layer 9 .* outside an encoder of 9 blocks"):
        probe(sources=[9])
    with pytest.raises(ValueError, match="listed for an encoder of 12 blocks, but this one has 9"):
        probe(listed_depth=12)
    with pytest.raises(ValueError, match="task 'boxes'"):
        probe(task="boxes")
    with pytest.raises(ValueError, match="use 'all'"):
        probe(sources="every")
    images, samples = batch([0])
    with pytest.raises(ValueError, match="2 x 32 px are smaller than one patch of 4 px .*0.jpg"):
        probe()(images[:, :, :2], samples, mode="loss")
    samples[0].gt_sem_seg.data[:] = 3
    with pytest.raises(ValueError, match="labels hold 3 to 3 .*0.jpg"):
        probe()(images, samples, mode="loss")
    with pytest.raises(ValueError, match="0.jpg holds class 3"):
        probe().eval()(images, samples, mode="predict")


def test_bad_evaluations_are_refused(evaluated) -> None:
    metric, _, _ = evaluated
    with pytest.raises(ValueError, match="'77' was not probed"):
        metric.difference("7", "77")
    held = [row for row in metric.results if row[1]]
    with pytest.raises(ValueError, match="no image to report"):
        metric.compute_metrics(held)
    with pytest.raises(ValueError, match="no image to select with"):
        metric.compute_metrics([row for row in metric.results if not row[1]])
    lacking = [(name, held, counts * 1, None) for name, held, counts, *_ in metric.results]
    for _, is_held, counts, _ in lacking:
        if is_held:
            counts[:, :, :, 2] = 0
    with pytest.raises(ValueError, match="class 'c' has no annotated pixel on the 8 images"):
        metric.compute_metrics(lacking)
    with pytest.raises(ValueError, match="9 sources x 4 heads, but the metric expects 9 x 1"):
        ProbeMetric("segmentation", 9).process(
            None, [{"probe_counts": held[0][2], "img_path": "x"}]
        )
    with pytest.raises(RuntimeError, match="nothing yet"):
        ProbeMetric("depth", 9).by_layer()


def test_selection_averages_seeds_and_skips_diverged_heads() -> None:
    settings = head_settings([1e-1, 1e-2], [0.0], [0, 1])
    scores = np.array([[0.9, 0.1, 0.6, 0.6], [np.nan, 1.0, 0.2, 0.3]])
    chosen = select_heads(scores, settings, higher_is_better=True)
    assert (chosen.source, chosen.setting_S) == (0, (1, 1))
    assert chosen.by_seed == ((0, 0), (1, 0))
    assert select_heads(scores, settings, higher_is_better=False).source == 1
    with pytest.raises(ValueError, match="source 1 diverged"):
        select_heads(np.array([[1.0] * 4, [np.nan] * 4]), settings, True)


class ListOfImages:
    def __init__(self, names):
        self.names, self.metainfo = names, {"classes": ("a",)}

    def full_init(self):
        pass

    def __len__(self):
        return len(self.names)

    def get_data_info(self, i):
        return {"img_path": self.names[i]}

    def __getitem__(self, i):
        _, samples = batch([i])
        return {"data_samples": samples[0]}


def test_samples_of_the_holdout_say_so() -> None:
    names = [f"images/{i:05d}.jpg" for i in range(2000)]
    parts = [HoldoutSubset(ListOfImages(names), part) for part in ("train", "holdout")]
    assert [part.indices for part in parts] == [toss(names).train, toss(names).held]
    assert parts[1][0]["data_samples"].get("probe_split") == "holdout"
    assert "probe_split" not in parts[0][0]["data_samples"]
    with pytest.raises(ValueError, match="part 'val'"):
        HoldoutSubset(ListOfImages(["a"]), "val")


@pytest.mark.parametrize("flip", [None, "horizontal", "vertical"])
@pytest.mark.parametrize("band", [1, 10**7])
def test_labels_of_all_heads_are_those_of_each(monkeypatch, flip, band) -> None:
    monkeypatch.setitem(upsampled_loss.BAND_NUMEL, "cpu", band)
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 4, 6)
    for image, label in (((16, 24), (16, 24)), ((13, 20), (29, 17))):
        windows = [PixelBox(0, 16, 0, 24)]
        found = BandedLogits([logits], windows, image, label, flip).labels()
        for p in range(3):
            expected = reference_labels([logits[p]], windows, image, label, flip)
            assert (found[p] == expected).float().mean() > 0.99  # ties by rounding


def test_frames_of_one_sequence_have_a_gap_without_an_interval() -> None:
    """Nothing can be resampled there; such a depth probe once ended in an error after training."""
    metric, truth_HW = ProbeMetric("depth", 2), torch.full((4, 4), 2.0)
    for n in range(4):
        errors = [depth_error_sums(truth_HW + e + 0.01 * n, truth_HW) for e in (0.1, 0.3)]
        counts = np.array([[found.row] for found in errors])  # (S, P, Q)
        held = {"probe_split": "holdout"} if n < 2 else {}
        sample = {"img_path": f"walk/{n}.png", "sequence": "walk", "probe_counts": counts}
        metric.process(None, [sample | held])
    scores = metric.compute_metrics(metric.results)
    assert metric.summary().source == "0" and metric.summary().best_minus_last is None
    selection, curve = metric.selection(), metric.by_layer()["rmse"]
    assert selection.best_minus_last == pytest.approx(scores["rmse"] - curve["1"]) != 0
    assert selection.best_minus_last_ci95 is None
