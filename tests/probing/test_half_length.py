"""Heads of half a training: what they learn, that they touch nothing, and what they tell."""

import numpy as np
import pytest
import torch
from planted import batch, probe
from test_head_bank import STEPS, train_alone, train_bank

from pe_dense.pixelwise.depth_errors import DepthErrorSums, depth_evidence
from pe_dense.pixelwise.mean_iou import counts_evidence
from pe_dense.probing.classification.class_metric import ClassProbeMetric
from pe_dense.probing.grouped_adamw import GroupedAdamW
from pe_dense.probing.half_length import gain_of
from pe_dense.probing.probe_metric import ProbeMetric
from pe_dense.run.config import load_template
from pe_dense.run.protocol import protocol_sha256


def test_they_learn_what_a_training_of_half_the_steps_gives() -> None:
    """Against heads trained alone, with torch's optimiser, a schedule of half as many steps."""
    model = probe(sources=[1, 7], half_length=True)
    train_bank(model)
    twins = [(p, s) for p, s in enumerate(model.bank.settings) if s.half_length]
    assert [p for p, _ in twins] == [8, 9, 10, 11] and {s.seed for _, s in twins} == {0}
    for s, layers in enumerate(model.bank.sources):
        for p, setting in twins:
            alone = train_alone(layers, setting.lr, setting.weight_decay, 0, steps=STEPS // 2)
            weight, bias = alone[1].weight[..., 0, 0], alone[1].bias
            torch.testing.assert_close(model.bank.weights[s][p], weight, atol=1e-5, rtol=0)
            torch.testing.assert_close(model.bank.biases[s][p], bias, atol=1e-5, rtol=0)


def test_they_touch_no_other_head() -> None:
    with_them, without = (probe(sources=[7], half_length=half) for half in (True, False))
    train_bank(with_them)
    train_bank(without)
    torch.testing.assert_close(
        with_them.bank.weights[0][:8], without.bank.weights[0], atol=1e-6, rtol=0
    )


def scored(model, **settings):
    """The metric after 16 held-out and 8 reported images."""
    model.eval()
    metric = ProbeMetric("segmentation", 9, [7, 8], half_length=True, **settings)
    metric.dataset_meta = dict(classes=["a", "b", "c"])
    for first, held in ((1000, True), (1008, True), (1016, False)):
        images, samples = batch(range(first, first + 8))
        for sample in samples if held else ():
            sample.set_metainfo({"probe_split": "holdout"})
        model.predict(images, samples)
        metric.process(None, [sample.to_dict() for sample in samples])
    metric.compute_metrics(metric.results)
    return metric


@pytest.mark.parametrize(("lr", "steps", "rises"), [(3e-3, 12, True), (3e-2, 60, False)])
def test_short_trainings_are_told_from_long_ones(lr, steps, rises) -> None:
    settings = dict(lrs=(lr, 1e-7), weight_decays=(0.0,), seeds=(0, 1))
    model = probe(sources=[7, 8], half_length=True, **settings)
    train_bank(model, steps)
    metric = scored(model, **settings)
    told = metric.summary().rising
    assert ("7" in told) == rises
    selection = metric.selection(seed=1)
    assert selection.rising == told and selection.candidates == 8  # the twins are no candidates
    assert metric.settings == model.bank.settings[:4]
    if rises:
        assert "after a training half as long" in told["7"] and told["7"].startswith("mIoU")


def test_without_them_nobody_looked() -> None:
    settings = dict(lrs=(1e-2,), weight_decays=(0.0,), seeds=(0,))
    model = probe(sources=[7], **settings)
    images, samples = batch(range(4))
    for sample in samples[:2]:
        sample.set_metainfo({"probe_split": "holdout"})
    model.eval().predict(images, samples)
    metric = ProbeMetric("segmentation", 9, [7], **settings)
    metric.dataset_meta = dict(classes=["a", "b", "c"])
    metric.process(None, [sample.to_dict() for sample in samples])
    metric.compute_metrics(metric.results)
    assert metric.summary().rising is None and metric.selection().rising is None
    expecting = ProbeMetric("segmentation", 9, [7], half_length=True, **settings)
    with pytest.raises(ValueError, match="1 sources x 1 heads, but the metric expects 1 x 2"):
        expecting.process(None, [sample.to_dict() for sample in samples])


def maps(right, size=100):
    """Evidence of images of two classes; `right` pixels of each are right."""
    counts = [
        [[n // 2, n - n // 2], [n // 2 + size - n, n - n // 2], [size // 2, size // 2]]
        for n in right
    ]
    names = [f"{i}.png" for i in range(len(right))]
    return counts_evidence(names, ["a", "b"], np.array(counts))


def test_a_gain_is_clear_only_beyond_its_interval_and_two_hundredths() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(40, 60, 40)
    assert gain_of(maps(base), maps(base + 10), "mIoU").is_rising
    assert not gain_of(maps(base + 10), maps(base), "mIoU").is_rising  # it fell
    assert not gain_of(maps(base), maps(base), "mIoU").is_rising
    # Sure, but small: a hundredth of the score.
    sure = maps(np.full(40, 1000), 2000), maps(np.full(40, 1010), 2000)
    assert not gain_of(*sure, "mIoU").is_rising
    # Large, but one image of three did it.
    few = maps(base[:3]), maps(base[:3] + np.array([30, -4, -3]))
    assert not gain_of(*few, "mIoU").is_rising


def test_errors_fall_where_scores_rise() -> None:
    def walk(error, sequences):
        sums = [DepthErrorSums(num_pixels=10, squared=10 * e * e) for e in error]
        names = [f"{i}.png" for i in range(len(error))]
        return depth_evidence(names, sums, metric_names=("rmse",), sequence_ids=sequences)

    rooms = [f"room{i}" for i in range(20)]
    many = np.linspace(0.4, 0.6, 20)
    assert gain_of(walk(many * 1.2, rooms), walk(many, rooms), "rmse").is_rising
    assert not gain_of(walk(many, rooms), walk(many * 1.2, rooms), "rmse").is_rising
    one = ["room"] * 20  # no interval: the size alone
    assert gain_of(walk(many * 1.2, one), walk(many, one), "rmse").is_rising
    assert not gain_of(walk(many * 1.01, one), walk(many, one), "rmse").is_rising


@pytest.mark.parametrize(
    ("half_right", "expected"),
    [(10, {"0": "top-1 66.7, 33.3 after a training half as long"}), (20, {}), (19, {})],
)
def test_whole_pictures_are_told_of_by_their_ranks(half_right, expected) -> None:
    metric = ClassProbeMetric("classification", 1, half_length=True)
    metric.dataset_meta = dict(classes=["a", "b", "c"])
    for i in range(60):
        held = i < 30
        ranks = [0 if i % 30 < 20 else 2, 0 if i % 30 < half_right else 1]  # the whole head first
        rest = [] if held else [i % 3, (i + 1) % 3, (i + 2) % 3, 0.5, 0.3, 0.2]
        sample = dict(
            probe_counts=np.array([[[float(rank), *rest] for rank in ranks]]),
            img_path=f"{i}.png", target=i % 3, **({"probe_split": "holdout"} if held else {}),
        )  # fmt: skip
        metric.process(None, [sample])
    metric.compute_metrics(metric.results)
    assert metric.summary().rising == expected


def test_old_states_resume_and_others_are_refused() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    plain = GroupedAdamW([parameter], [1e-2, 1e-2], [0.0, 0.0])
    half = GroupedAdamW([parameter], [1e-2, 1e-2], [0.0, 0.0], head_half_length=[False, True])
    old = plain.state_dict()
    del old["param_groups"][0]["head_half_length"]
    plain.load_state_dict(old)
    with pytest.raises(ValueError, match="head_half_length"):
        half.load_state_dict(old)
    with pytest.raises(ValueError, match="give one for every head, and lr=1"):
        GroupedAdamW([parameter], [1e-2, 1e-2], [0.0, 0.0], lr=0.5, head_half_length=[True, True])


def test_they_are_no_part_of_a_protocol() -> None:
    config = load_template("configs/probing/segmentation_pe_t16_mini.py")
    assert config.half_length and config.model.half_length == "$half_length"
    own = protocol_sha256(config)
    config.half_length = False
    assert protocol_sha256(config) == own
    for part in (config, config.model, config.test_evaluator):
        part.pop("half_length")
    assert protocol_sha256(config) == own
    config.model.batch_norm = False
    assert protocol_sha256(config) != own
