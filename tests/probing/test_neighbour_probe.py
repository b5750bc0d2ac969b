"""k-NN and centroid probes against slow versions that sort everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pe_dense.probing.neighbour_probe import (
    IGNORE,
    Neighbours,
    TokenSet,
    class_centroids,
    exact_top_k,
    nearest_centroid,
    probe_neighbours,
    reference_top_k,
    token_labels,
    vote,
)


def planted(seed: int, count: int, noise: float = 0.3) -> TokenSet:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    features = np.eye(6)[labels] * 2 + rng.normal(size=(count, 6)) * noise
    return TokenSet(features.astype(np.float32), labels)


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
@pytest.mark.parametrize("k", [1, 5, 50])
def test_top_k_equals_a_full_sort(chunk: int, k: int) -> None:
    queries, bank = planted(0, 20).features_NC, planted(1, 50).features_NC
    found = exact_top_k(torch.from_numpy(queries), bank, k, chunk)
    np.testing.assert_array_equal(found.index_Qk.numpy(), reference_top_k(queries, bank, k))
    assert (found.cosine_Qk.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 40])
def test_of_equal_neighbours_the_lower_index_wins_in_every_chunking(chunk: int) -> None:
    rng = np.random.default_rng(0)
    bank = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 40)]  # many exact ties
    queries = np.eye(4, dtype=np.float32)
    found = exact_top_k(torch.from_numpy(queries), bank, 15, chunk)
    np.testing.assert_array_equal(found.index_Qk.numpy(), reference_top_k(queries, bank, 15))


def test_a_memory_map_is_read_as_an_array(tmp_path: Path) -> None:
    train, test = planted(0, 60), planted(1, 30)
    np.save(tmp_path / "bank.npy", train.features_NC.astype(np.float16))
    bank = np.load(tmp_path / "bank.npy", mmap_mode="r")
    mapped = exact_top_k(torch.from_numpy(test.features_NC), bank, 3, chunk=8)
    plain = exact_top_k(torch.from_numpy(test.features_NC), np.array(bank), 3)
    torch.testing.assert_close(mapped.cosine_Qk, plain.cosine_Qk)
    assert torch.equal(mapped.index_Qk, plain.index_Qk)


def test_votes_by_hand() -> None:
    labels = torch.tensor([2, 0, 0, 1])
    near = Neighbours(
        torch.tensor([[0.9, 0.1, 0.1], [0.5, 0.5, 0.4]]), torch.tensor([[0, 1, 2], [3, 0, 1]])
    )
    assert vote(near, labels, 3).tolist() == [0, 0]  # two of three; one each, so the lowest
    assert vote(near, labels, 3, temperature=0.1).tolist() == [2, 1]
    with pytest.raises(ValueError, match="temperature 0"):
        vote(near, labels, 3, temperature=0.0)


def test_centroids_are_means_of_directions() -> None:
    train = TokenSet(
        np.array([[2.0, 0], [0, 5], [-1, 0], [9, 9]], np.float32), np.array([0, 0, 2, IGNORE])
    )
    centroids = class_centroids(train, 3, chunk=2)
    torch.testing.assert_close(centroids[0], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(centroids[2], torch.tensor([-1.0, 0.0]))
    assert centroids[1].isnan().all()
    queries = torch.tensor([[1.0, 0.1], [-1.0, 0.2], [-0.1, -1.0], [0.0, 0.0]])
    assert nearest_centroid(queries, centroids).tolist() == [0, 2, 2, 0]


def test_labels_of_patches() -> None:
    labels = np.array(
        [[0, 0, 1, 1], [0, 2, 255, 255], [255, 255, 2, 1], [255, 255, 1, 2]], np.uint8
    )
    assert token_labels(labels, 2, 3).tolist() == [[0, 1], [IGNORE, 1]]
    with pytest.raises(ValueError, match="not made of patches of 3"):
        token_labels(labels, 3, 3)
    with pytest.raises(ValueError, match="holds class 2"):
        token_labels(labels, 2, 2)


def test_scores_are_the_mean_iou_of_slow_predictions() -> None:
    train, test = planted(0, 80, noise=1.2), planted(1, 50, noise=1.2)
    train.labels_N[::9] = IGNORE
    test.labels_N[::7] = IGNORE
    scores = probe_neighbours(train, test, 4, ks=(1, 5))
    taught, asked = train.labels_N != IGNORE, test.labels_N != IGNORE
    nearest = reference_top_k(test.features_NC[asked], train.features_NC[taught], 5)
    truth = test.labels_N[asked]
    for k in (1, 5):
        votes = train.labels_N[taught][nearest[:, :k]]
        answer = np.array([np.bincount(row, minlength=4).argmax() for row in votes])
        ious = [
            ((answer == c) & (truth == c)).sum() / ((answer == c) | (truth == c)).sum()
            for c in range(4)
        ]
        assert scores[f"knn_{k}"] == pytest.approx(np.mean(ious))
        assert 0.2 < scores[f"knn_{k}"] < 0.95  # neither trivial nor hopeless
    assert 0.2 < scores["centroid"] < 0.95


def test_clean_features_are_told_apart_and_noise_is_not() -> None:
    clean = probe_neighbours(planted(0, 200, 0.05), planted(1, 100, 0.05), 4)
    assert set(clean) == {"knn_1", "knn_5", "knn_20", "centroid"}
    assert set(clean.values()) == {1.0}
    rng = np.random.default_rng(0)
    noise = [TokenSet(rng.normal(size=(200, 6)), rng.integers(0, 4, 200)) for _ in range(2)]
    assert max(probe_neighbours(*noise, 4).values()) < 0.3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(k=0), "k=0 neighbours"),
        (dict(k=51), "among 50 train tokens"),
        (dict(chunk=0), "chunk=0"),
        (dict(bank_NC=np.ones((5, 3), np.float32), k=1), "one feature width"),
        (dict(bank_NC=np.full((5, 6), np.nan, np.float32), k=1), "NaN"),
    ],
)
def test_bad_searches_are_refused(change: dict, words: str) -> None:
    given = dict(queries_QC=torch.ones(2, 6), bank_NC=planted(0, 50).features_NC, k=3) | change
    with pytest.raises(ValueError, match=words):
        exact_top_k(**given)


def test_bad_sets_are_refused() -> None:
    good, empty = planted(0, 30), TokenSet(np.ones((3, 6)), np.full(3, IGNORE))
    with pytest.raises(ValueError, match="the test set has no token with a class"):
        probe_neighbours(good, empty, 4)
    with pytest.raises(ValueError, match="train labels reach 3"):
        probe_neighbours(good, good, 3)
    with pytest.raises(ValueError, match="2 labels|labels for"):
        probe_neighbours(good, TokenSet(np.ones((3, 6)), np.zeros(2, int)), 4)
    with pytest.raises(ValueError, match="ks is empty"):
        probe_neighbours(good, good, 4, ks=())
