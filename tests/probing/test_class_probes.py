"""Probes of whole pictures: against slow and independent forms, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from class_case import COLOURS, ENCODER, KNN, LINEAR, coloured, in_parts, small
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS
from PIL import Image
from runs import evaluate, train, without_upkeep
from torch import nn

import pe_dense.probing.classification
import pe_dense.zero_shot  # noqa: F401 (registers ClassFolders)
from pe_dense.probing.classification import blind, global_model
from pe_dense.probing.classification.class_metric import NeighbourMetric
from pe_dense.probing.classification.data_check import check_config
from pe_dense.probing.classification.global_neighbours import GlobalNeighbours
from pe_dense.probing.classification.global_probe import GlobalProbe
from pe_dense.probing.classification.own_facts import facts
from pe_dense.results.comparison import evidence_of
from pe_dense.results.store import load_records
from pe_dense.run.config import load_config

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(COLOURS)
BACKBONE = dict(
    type="DenseBackbone", encoder=ENCODER, weights="random",
    encoder_options=small(Path(), None)["model.backbone.encoder_options"],
)  # fmt: skip


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    without_upkeep(monkeypatch)


def images_of(root: Path, **options) -> dict:
    folders = dict(type="ClassFolders", data_root=str(root), templates=["{}"], as_stored=False)
    return dict(type="ClassImages", images=folders, **options)


def items(config: dict) -> list[dict]:
    dataset = DATASETS.build(config)
    return [dataset.item(i) for i in range(len(dataset))]


def unit_means(tower: nn.Module, files: list[Path], layer: int) -> np.ndarray:
    """Mean of the plainly normed patches of each picture, alone, of unit length; float64."""
    rows = []
    for file in files:
        picture = Image.open(file)
        side = 32 / min(picture.size)
        picture = picture.resize([int(s * side) for s in picture.size], Image.Resampling.BILINEAR)
        left, top = (round((s - 32) / 2) for s in picture.size)
        pixels = np.asarray(picture.crop((left, top, left + 32, top + 32)), np.float32) / 255
        image = (torch.from_numpy(pixels) - torch.tensor(tower.mean)) / torch.tensor(tower.std)
        with torch.no_grad():
            map_Chw = tower.forward_intermediates(image.permute(2, 0, 1)[None], [layer])[0][0]
        tokens_NC = map_Chw.flatten(1).T.double().numpy()
        tokens_NC -= tokens_NC.mean(1, keepdims=True)
        tokens_NC /= np.sqrt((tokens_NC**2).mean(1, keepdims=True) + 1e-5)
        rows.append(tokens_NC.mean(0))
    return np.stack([row / np.linalg.norm(row) for row in rows])


def vote_one_by_one(query, bank, labels, k):
    """Shares of the votes of each class, neighbour by neighbour."""
    cosines = [float(query @ row) for row in bank]
    order = sorted(range(len(bank)), key=lambda n: (-cosines[n], n))[:k]
    votes = [0.0] * len(NAMES)
    for n in order:
        votes[labels[n]] += math.exp(cosines[n] / 0.07)
    return np.array(votes) / sum(votes)


def test_neighbours_equal_the_slow_form_and_are_chosen_on_held_out_pictures(tmp_path) -> None:
    root, records = in_parts(tmp_path / "mine"), tmp_path / "records"
    ks, seed = [1, 5, 10], 3
    scores = evaluate(
        KNN, encoder=ENCODER, weights="random", seed=seed, work_dir=tmp_path / "run",
        records=records, options=small(root, tmp_path / "kept") | {"ks": ks},
    )  # fmt: skip
    (record,) = load_records(records)
    evidence = evidence_of(record, records)
    torch.manual_seed(seed)
    tower = MODELS.build(dict(BACKBONE, out_indices=[0, 1, 2])).encoder.eval()
    assert record.encoder.feature_fingerprint  # of a tower that this one has to be, see below
    train_files, val_files = (sorted((root / part).glob("*/*.png")) for part in ("train", "val"))
    label = {file: NAMES.index(file.parent.name) for file in train_files + val_files}
    cfg, _ = load_config(KNN, ENCODER, "random", small(root, None) | {"ks": ks})
    held_set = DATASETS.build(cfg.test_dataloader.dataset.datasets[0])
    held = {Path(held_set.get_data_info(i)["img_path"]) for i in range(len(held_set))}
    assert 0 < len(held) < len(train_files)
    taught = [file for file in train_files if file not in held]
    best = None
    for layer in range(3):
        vectors = dict(zip(label, unit_means(tower, list(label), layer), strict=True))
        for k in ks:
            few = np.stack([vectors[file] for file in taught])
            right = [
                vote_one_by_one(vectors[f], few, [label[t] for t in taught], k).argmax() == label[f]
                for f in sorted(held)
            ]
            if best is None or np.mean(right) > best[0]:
                best = np.mean(right), layer, k, vectors
    _, layer, k, vectors = best
    assert record.selection.chosen == {"layer": str(layer), "k": str(k), "temperature": "0.07"}
    bank = np.stack([vectors[file] for file in train_files])
    votes = [
        vote_one_by_one(vectors[f], bank, [label[t] for t in train_files], k) for f in val_files
    ]
    assert evidence.image_ids == tuple(f"{f.parent.name}/{f.name}" for f in val_files)
    np.testing.assert_array_equal(evidence.top_NJ[:, 0], np.argmax(votes, 1))
    np.testing.assert_allclose(evidence.score_NJ[:, 0], np.max(votes, 1), rtol=2e-4)
    assert scores["top1"] == np.mean(np.argmax(votes, 1) == [label[f] for f in val_files])
    assert record.task == "classification" and record.dataset.num_items == 15
    assert record.ci95["top1"][0].low <= scores["top1"] <= record.ci95["top1"][0].high
    assert record.blind[blind.CHANCE] == pytest.approx(1 / 3)
    assert record.blind[blind.MOST_FREQUENT] == pytest.approx(1 / 3)


def test_heads_equal_each_trained_alone_and_pictures_are_read_once(tmp_path, monkeypatch) -> None:
    infos = items(images_of(coloured(tmp_path / "mine")))
    lrs, decays, seeds = (0.1, 0.01), (0.0, 0.1), (0, 5)
    torch.manual_seed(0)
    model = GlobalProbe(
        3, lrs, decays, seeds, sources=[0, (1, 2)], backbone=BACKBONE, encoder_depth=3,
        readout="class+mean", results_dir=str(tmp_path / "kept"),
    )  # fmt: skip
    features = model.features(infos)
    read = []
    whole = global_model.read_picture
    monkeypatch.setattr(
        global_model, "read_picture", lambda *a, **b: (read.append(a), whole(*a, **b))[1]
    )
    wrapper = build_optim_wrapper(
        model,
        dict(
            type="OptimWrapper", constructor="HeadBankOptimizer",
            optimizer=dict(type="GroupedAdamW", lr=1.0),
        ),
    )  # fmt: skip
    order = [torch.randperm(30, generator=torch.Generator().manual_seed(s))[:8] for s in range(20)]
    first = [[weight[p].detach().clone() for p in range(8)] for weight in model.bank.weights]
    model.train()
    from mmengine.structures import BaseDataElement

    for batch in order:
        samples = [BaseDataElement(metainfo=infos[i]) for i in batch]
        wrapper.update_params(model(None, samples, "loss")["loss"])
    assert read == []  # all of them were kept
    target = torch.tensor([info["target"] for info in infos])
    for s, layers in enumerate(((0,), (1, 2))):
        x = torch.cat([features[layer] for layer in layers], 1)
        for p, setting in enumerate(model.bank.settings):
            norm, head = nn.BatchNorm1d(x.shape[1], affine=False), nn.Linear(x.shape[1], 3)
            head.weight.data, head.bias.data = first[s][p].clone(), torch.zeros(3)
            alone = torch.optim.AdamW(
                head.parameters(), lr=setting.lr, weight_decay=setting.weight_decay
            )
            for batch in order:
                loss = nn.functional.cross_entropy(head(norm(x[batch])), target[batch])
                alone.zero_grad()
                loss.backward()
                alone.step()
            torch.testing.assert_close(model.bank.weights[s][p], head.weight, atol=2e-4, rtol=1e-3)
    model.eval()
    rows = model.ranked(infos)
    probabilities = head(norm.eval()(x)).softmax(1)  # of the last head
    assert [row[1, 7, 0] == 0 for row in rows] == (probabilities.argmax(1) == target).tolist()
    held = model.ranked([{**info, "probe_split": "holdout"} for info in infos])
    np.testing.assert_array_equal(np.stack(held)[..., 0], np.stack(rows)[..., 0])
    assert held[0].shape == (2, 8, 1)


def test_a_linear_run_from_training_to_records_without_a_second_look(tmp_path, monkeypatch) -> None:
    root, records = coloured(tmp_path / "mine", 15), tmp_path / "records"
    options = small(root, tmp_path / "kept") | {
        "sources": [0, 2], "seeds": [0, 1], "max_epochs": 6, "warmup_iters": 3, "batch_size": 8,
        "lrs": [3e-2, 1e-2, 1e-3],
    }  # fmt: skip
    train(LINEAR, encoder=ENCODER, weights="random", work_dir=tmp_path / "run", options=options)
    read = []
    whole = global_model.read_picture
    monkeypatch.setattr(
        global_model, "read_picture", lambda *a, **b: (read.append(a[0]), whole(*a, **b))[1]
    )
    data = {"data_root": str(root)}
    scores = evaluate(LINEAR, tmp_path / "run", records, options=data)
    # Of what was trained on, nothing is read again: what chose and what is scored is new.
    held, val = load_config(LINEAR, ENCODER, "random", options)[0].test_dataloader.dataset.datasets
    new = {info["img_path"] for part in (held, val) for info in _infos(part)}
    assert set(read) == new and len(read) == len(new)
    found = load_records(records)
    assert [record.seed for record in found] == [0, 1]
    assert scores["top1"] > 0.6 and found[0].scores == scores
    assert set(found[0].by_layer["top1"]) == {"0", "2"}
    assert set(found[0].selection.chosen) == {"layer", "lr", "weight_decay"}
    assert found[0].selection.on == "holdout" and found[0].dataset.num_items == 9


def _infos(config):
    dataset = DATASETS.build(config)
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def test_blind_lines_by_hand(tmp_path) -> None:
    root = tmp_path / "mine"
    for part, counts in (("train", {"a": 3, "b": 2}), ("val", {"a": 1, "b": 3})):
        for name, count in counts.items():
            (root / part / name).mkdir(parents=True)
            for i in range(count):  # b is wide
                size = (64, 16) if name == "b" else (16, 16)
                Image.new("RGB", size).save(root / part / name / f"{i}.png")
    cfg, _ = load_config(KNN, ENCODER, "random", small(root, None))
    found, _ = blind.of_config(cfg)
    assert found == {blind.CHANCE: 0.5, blind.MOST_FREQUENT: 0.25, blind.BY_SIZE: 1.0}
    assert blind.by_key([(1, 2), (1, 0), (1, 0), (5, 1)], [1, 7], 3, 3).tolist() == [
        [0, 2, 1], [0, 1, 2],
    ]  # fmt: skip


def no_val(root):
    coloured(root / "train", 3)


def other_classes(root):
    coloured(root / "train", 3)
    coloured(root / "val", 2, classes=("blue", "red"))


def an_empty_class(root):
    in_parts(root)
    (root / "train" / "red" / "sub").mkdir()
    for file in (root / "train" / "red").glob("*.png"):
        file.unlink()


def one_picture(root):
    in_parts(root)
    for i in range(1, 10):
        (root / "train" / "red" / f"{i}.png").unlink()


def one_of_all(root):
    coloured(root, 1)


def one_class(root):
    coloured(root, 9, classes=("blue",))


def no_classes(root):
    root.mkdir()


def broken_picture(root):
    in_parts(root)
    (root / "val" / "red" / "0.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("make", "split", "words"),
    [
        (one_class, None, "has the class 'blue' alone"),
        (no_classes, None, "has no folder; give each class a folder of its own"),
        (no_val, None, "has train and nothing to score; put class folders into"),
        (other_classes, None, r"train has class 'green', which .*val lacks \(1 such\)"),
        (in_parts, 0.3, "so that split=0.3 would change nothing"),
        (an_empty_class, None, "train/red holds no image"),
        (one_picture, None, "red has 1; add pictures to the class"),
        (one_of_all, None, "blue/0.png is the only picture of its class"),
        (broken_picture, None, "is no picture, or its head is broken"),
    ],
)
def test_data_that_cannot_be_are_one_sentence(make, split, words, tmp_path) -> None:
    root = tmp_path / "mine"
    make(root)
    with pytest.raises(ValueError, match=words) as caught:
        found = facts({"data_root": str(root), "split": split})
        train_set, val_set = (
            dict(images_of(root / found[f"{part}_folder"]), split=found["split"])
            | {"part": found[f"part_{part}"]}
            for part in ("train", "val")
        )
        loaders = {
            f"{name}_dataloader": {"dataset": of}
            for name, of in (("train", train_set), ("test", val_set))
        }
        require_sound(check_config({"data_root": str(root), **loaders}, ("test",)))
    assert "\n" not in str(caught.value)


def test_a_class_may_be_called_train(tmp_path) -> None:
    root = coloured(tmp_path / "mine", 5)
    (root / "blue").rename(root / "train")
    found = facts({"data_root": str(root), "split": None})
    assert found["classes"] == ["green", "red", "train"] and found["train_folder"] == ""


def require_sound(checked) -> None:
    for finding in checked.findings:
        if finding.is_problem:
            raise ValueError(finding.sentence())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ks": [1, 40]}, "k=40 neighbours cannot be found among 27 training pictures"),
        ({"ks": [0, 2]}, r"ks is \[0, 2\]; give at least one number of 1 or more"),
        ({"temperature": 0.0}, "temperature=0.0 is not positive"),
        ({"fit": "stretch"}, "fit='stretch' is unknown"),
        ({"sources": [3]}, "layer 3 of the probed layers is outside"),
        ({"readout": "pool", "norm": "final"}, "would be a second one"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(options, words, tmp_path) -> None:
    root = images_of(coloured(tmp_path / "mine"))
    settings = dict(backbone=BACKBONE, encoder_depth=3, readout="mean", holdout_share=0.1)
    with pytest.raises(ValueError, match=words) as caught:
        GlobalNeighbours(root, **settings | options).ranked(items(root)[:1], True)
    assert "\n" not in str(caught.value)


def test_a_choice_needs_candidates_and_candidates_a_choice() -> None:
    for options in (dict(sources=[-1], ks=[5]), dict(ks=[1, 5], select_on="")):
        with pytest.raises(ValueError, match="do not fit select_on="):
            NeighbourMetric(3, **options)
    metric = NeighbourMetric(3, ks=[5], select_on="")
    assert metric.selection() is None


def test_a_feature_that_is_no_number_names_the_picture_and_is_not_kept(tmp_path) -> None:
    infos = items(images_of(coloured(tmp_path / "mine", 3)))
    model = GlobalNeighbours(
        images_of(tmp_path / "mine"), sources=[0, 1], backbone=BACKBONE, encoder_depth=3,
        readout="mean", results_dir=str(tmp_path / "kept"),
    )  # fmt: skip
    model.backbone.encoder.blocks[1].mlp.c_proj.bias.data.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"the feature of blue/0.png in layer 1 is not finite"):
        model.features(infos)
    assert model.store(infos[0]).num_there(0) == 0


def test_scored_pictures_that_are_copies_or_links_are_refused(tmp_path) -> None:
    root = in_parts(tmp_path / "mine")
    taught, scored = root / "train" / "red" / "3.png", root / "val" / "red"
    (scored / "copy.png").write_bytes(taught.read_bytes())
    (scored / "link.png").symlink_to(taught)
    cfg, _ = load_config(KNN, ENCODER, "random", small(root, None))
    (problem,) = [f for f in check_config(cfg, ("test",)).findings if f.is_problem]
    assert problem.rule.name == "val-is-train" and problem.count == 2
    (scored / "copy.png").unlink()
    (scored / "link.png").unlink()
    assert not any(f.is_problem for f in check_config(cfg, ("test",)).findings)
