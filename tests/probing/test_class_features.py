"""Features of whole pictures: each read-out by hand, and what is kept of them on disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_towers import CORE, SPATIAL, tower_of

from pe_dense.probing.classification.class_images import divided
from pe_dense.probing.classification.feature_store import FeatureStore
from pe_dense.probing.classification.global_features import global_features
from pe_dense.probing.classification.ranked_classes import ranked

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def streams(tower):
    kept, _ = tower.run_blocks(IMAGES, [0, 1, 2])
    return [kept[i].detach() for i in range(3)]


def by_plain_norm(tokens):
    mean = tokens.mean(-1, keepdim=True)
    return (tokens - mean) / (tokens.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def test_each_readout_equals_the_tokens_by_hand() -> None:
    tower = tower_of(**CORE)
    tokens = streams(tower)
    norms = {"none": lambda x: x, "final": tower.ln_post, "plain": by_plain_norm}
    readouts = {
        "class": lambda x: x[:, 0],
        "mean": lambda x: x[:, 1:].sum(1) / 16,
        "class+mean": lambda x: torch.cat([x[:, 0], x[:, 1:].sum(1) / 16], 1),
    }
    for norm, of in norms.items():
        for readout, read in readouts.items():
            found = global_features(tower, IMAGES, [2, 0], readout, norm)
            for values, layer in zip(found, (2, 0), strict=True):
                torch.testing.assert_close(values, read(of(tokens[layer])).detach())


def test_the_pool_is_the_one_in_front_of_the_projection() -> None:
    tower = tower_of(**CORE)
    first, last = global_features(tower, IMAGES, [0, -1], "pool", "none")
    torch.testing.assert_close(last @ tower.proj, tower.encode_image(IMAGES))
    torch.testing.assert_close(first, tower.attn_pool(tower.ln_post(streams(tower)[0])))


@pytest.mark.parametrize(
    ("arch", "readout", "norm", "words"),
    [
        (dict(CORE, cls_token=False), "class", "none", "has no class token as it is built"),
        (SPATIAL, "pool", "none", "has no attention pool that can be read here"),
        (CORE, "pool", "plain", "would be a second one"),
        (SPATIAL, "mean", "final", "has no final norm"),
        (CORE, "middle", "none", "readout='middle' is not one of class, mean"),
        (CORE, "mean", "layer", "norm='layer' is not one of none, final, plain"),
    ],
)
def test_what_an_encoder_cannot_give_is_one_sentence(arch, readout, norm, words) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        global_features(tower_of(**arch), IMAGES, [0], readout, norm)
    assert "\n" not in str(caught.value)


class Giver:
    """Features that say their row and layer, and which were asked for."""

    def __init__(self, rows):
        self.rows, self.asked = rows, []

    def __call__(self, places):
        self.asked += [self.rows[b] for b in places]
        return [self.values(layer)[places] for layer in (0, 2)]

    def values(self, layer):
        return np.array([[row, layer, 1.0] for row in self.rows], np.float32)


def ask(store, rows):
    giver = Giver(rows)
    found = store.get([0, 2], rows, giver)
    for layer in (0, 2):
        np.testing.assert_array_equal(found[layer], giver.values(layer))
    return giver.asked


def test_rows_are_found_out_once_also_after_a_kill_or_damage(tmp_path) -> None:
    def opened(**about):
        return FeatureStore(tmp_path, about, 6, 3)

    assert ask(opened(), [3, 1]) == [3, 1]
    assert ask(opened(), [0, 1, 3, 5]) == [0, 5]
    assert ask(opened(weights="other"), [1]) == [1]
    store = opened()
    np.testing.assert_array_equal(store.rows_of(2)[[1, 3]], [[1, 2, 1], [3, 2, 1]])
    assert store.num_there(0) == 4
    file = store.folder / "layer_02.npy"
    damaged = np.load(file)
    damaged[3] = 7  # as if the last write had not reached the disk
    np.save(file, damaged)
    assert ask(opened(), [1, 3]) == [3]
    assert ask(opened(), [1, 3]) == []
    file.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"layer_02.npy cannot be used .* delete"):
        ask(opened(), [1])
    np.save(file, damaged[:2])
    with pytest.raises(ValueError, match=r"layer_02.npy holds float32 \(2, 3\), not float32"):
        ask(opened(), [1])
    in_memory = FeatureStore(None, {}, 6, 3)
    assert ask(in_memory, [4]) == [4] and ask(in_memory, [4, 2]) == [2]


def test_ranks_equal_sorting_and_ties_count_against_the_right_class() -> None:
    scores = torch.randn(40, 3, 7, generator=torch.Generator().manual_seed(1)).mul(2).round()
    target = torch.arange(40) % 7
    found = ranked(scores, target)
    for q in range(40):
        for p in range(3):
            right = scores[q, p, target[q]]
            others = [k for k in range(7) if k != target[q]]
            assert found[q, p, 0] == sum(scores[q, p, k] >= right for k in others)
            best = found[q, p, 1:6].astype(int)
            assert (int(target[q]) in best) == (found[q, p, 0] < 5)
            np.testing.assert_array_equal(found[q, p, 6:], scores[q, p].sort().values.flip(0)[:5])
            np.testing.assert_array_equal(found[q, p, 6:], scores[q, p, best])
    broken = scores.clone()
    broken[0, 1, 3] = torch.nan
    assert np.isnan(ranked(broken, target)[0, 1]).all()
    assert not np.isnan(ranked(broken, target)[0, 0]).any()
    with pytest.raises(ValueError, match=r"targets lie in 0..6, outside the 5 classes"):
        ranked(scores[..., :5], target)


def test_pictures_are_divided_class_by_class_whatever_their_order() -> None:
    ids = [f"{c}/{i}.jpg" for c in "ab" for i in range(10)] + ["c/0.jpg", "c/1.jpg"]
    targets = ["abc".index(name[0]) for name in ids]
    parts = divided(ids, targets, 0.2, 0)
    for k, wanted in ((0, 2), (1, 2), (2, 1)):
        assert sum(p == "val" for p, t in zip(parts, targets, strict=True) if t == k) == wanted
    back = divided(ids[::-1], targets[::-1], 0.2, 0)
    assert back[::-1] == parts != divided(ids, targets, 0.2, 1)
    with pytest.raises(ValueError, match="x/0 is the only picture of its class"):
        divided(["x/0", "y/0", "y/1"], [0, 1, 1], 0.5, 0)
    with pytest.raises(ValueError, match="split=1.5 is not between 0 and 1"):
        divided(ids, targets, 1.5, 0)


def test_rows_of_a_feature_have_unit_length_before_they_stand_together() -> None:
    from pe_dense.probing.classification.global_neighbours import joined

    parts = [torch.randn(4, 3), 100 * torch.randn(4, 3)]
    expected = torch.cat([F.normalize(part) for part in parts], 1)
    torch.testing.assert_close(joined(parts), expected)
    assert joined(parts[:1]) is parts[0]
