"""Retrieval ranks: solved by hand, against a slow form, ties, words that stand twice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pe_dense.zero_shot import blind
from pe_dense.zero_shot.retrieval_ranks import recall_at, retrieval_ranks, right_pairs


def slow(texts_TD, images_ID, texts, image_T, reweight):
    """Every query on its own, from the definition."""
    score_TI = texts_TD @ images_ID.T
    of_text, of_image = score_TI, score_TI
    if reweight is not None:
        scaled = score_TI * reweight
        of_text, of_image = scaled * scaled.softmax(dim=0), scaled * scaled.softmax(dim=1)
    right = [
        {image_T[u] for u in range(len(texts)) if texts[u] == texts[t]} for t in range(len(texts))
    ]
    ranks_T, ranks_I = [], []
    for t in range(len(texts)):
        best = max(of_text[t, i] for i in right[t])
        ranks_T.append(
            sum(
                bool(of_text[t, i] >= best) for i in range(len(images_ID)) if i not in right[t]
            )
        )  # fmt: skip
    for i in range(len(images_ID)):
        mine = [t for t in range(len(texts)) if i in right[t]]
        best = max(of_image[t, i] for t in mine)
        ranks_I.append(
            sum(bool(of_image[t, i] >= best) for t in range(len(texts)) if t not in mine)
        )
    return ranks_T, ranks_I


def test_by_hand():
    """Three pictures, four captions; the cosines are the table below."""
    images = torch.eye(3)
    texts = torch.tensor(
        [
            [0.9, 0.1, 0.0],  # of picture 0: first
            [0.5, 0.4, 0.6],  # of picture 0: second
            [0.2, 0.3, 0.8],  # of picture 1: second
            [0.7, 0.8, 0.1],  # of picture 2: last
        ]
    )
    found = retrieval_ranks(texts, images, right_pairs(["a", "b", "c", "d"], [0, 0, 1, 2]))
    assert found.text_T.tolist() == [0, 1, 1, 2]
    # picture 0: caption a leads; 1: d .8 and b .4 before c .3; 2: c .8, b .6, and a 0 after d .1
    assert found.image_I.tolist() == [0, 2, 2]
    assert recall_at(found.text_T, 1) == 0.25 and recall_at(found.image_I, 5) == 1.0


@pytest.mark.parametrize("reweight", [None, 1.0, 10.0])
@pytest.mark.parametrize("most_held", [0, 2**28])
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_equal_to_the_slow_form(reweight, most_held, rows):
    torch.manual_seed(1)
    texts_TD = F.normalize(torch.randn(17, 4).double(), dim=-1)
    images_ID = F.normalize(torch.randn(6, 4).double(), dim=-1)
    image_T = [*range(6), *torch.randint(6, (11,)).tolist()]
    texts = [f"caption {t % 13}" for t in range(17)]  # four stand twice
    found = retrieval_ranks(
        texts_TD, images_ID, right_pairs(texts, image_T), reweight, rows, most_held
    )
    expected = slow(texts_TD, images_ID, texts, image_T, reweight)
    assert (found.text_T.tolist(), found.image_I.tolist()) == expected


def test_reweighting_changes_ranks():
    """A picture that suits every text loses to one that suits the asking one alone."""
    images = torch.eye(2)
    texts = torch.tensor([[0.9, 0.0], [0.9, 0.0], [0.9, 0.8]])
    pairs = right_pairs(["a", "b", "c"], [0, 0, 1])
    assert retrieval_ranks(texts, images, pairs).text_T.tolist() == [0, 0, 1]
    assert retrieval_ranks(texts, images, pairs, 10.0).text_T.tolist() == [0, 0, 0]
    # Near a temperature of nothing the softmax is the same for all, and the plain order returns.
    assert retrieval_ranks(texts, images, pairs, 1e-4).text_T.tolist() == [0, 0, 1]


def test_a_tower_that_gives_everything_one_vector_finds_nothing():
    pairs = right_pairs([f"{t}" for t in range(6)], [0, 0, 1, 1, 2, 2])
    for reweight in (None, 1.0):
        found = retrieval_ranks(torch.ones(6, 1), torch.ones(3, 1), pairs, reweight)
        assert found.text_T.tolist() == [2] * 6 and found.image_I.tolist() == [4] * 3


def test_what_cannot_be_ranked_is_refused():
    pairs = right_pairs(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match="picture 2 has no right answer"):
        retrieval_ranks(torch.ones(2, 1), torch.ones(3, 1), pairs)
    with pytest.raises(ValueError, match="text 2 has no right answer"):
        retrieval_ranks(torch.ones(3, 1), torch.ones(2, 1), pairs)
    with pytest.raises(ValueError, match="not finite"):
        retrieval_ranks(torch.full((2, 1), torch.nan), torch.ones(2, 1), pairs)
    with pytest.raises(ValueError, match="do not fit"):
        retrieval_ranks(torch.ones(2, 1), torch.ones(2, 2), pairs)
    with pytest.raises(ValueError, match="2 texts for 1"):
        right_pairs(["a", "b"], [0])


def test_captions_that_differ_by_case_or_spaces_share_their_pictures():
    """Tokenizers make one text of them, and a tie would count against the right one."""
    found = right_pairs(["A man.", "a  man.\n", "a dog"], [0, 1, 1])
    assert [pair.tolist() for pair in found] == [[0, 0, 1, 1, 2], [0, 1, 0, 1, 1]]
    plain = blind.of_captions([["a man."], ["a man.", "a dog"]], "image_to_text_R@1")
    assert blind.of_captions([["A man."], ["a man. ", "a dog"]], "image_to_text_R@1") == plain
