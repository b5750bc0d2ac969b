"""Planted global tokens, and statistics against slow sums."""

from __future__ import annotations

import pytest
import torch
from small_towers import DETECTION, tower_of

from pe_dense.analysis.attention import BlockAttention, read_attention
from pe_dense.analysis.global_tokens import token_statistics


def attention_of(keys_NC: torch.Tensor, queries_NC: torch.Tensor, grid_hw: tuple[int, int]):
    """One head, no prefix, one window."""
    n = len(keys_NC)
    hidden = torch.ones(n, 2)
    hidden[0] = 10.0
    return BlockAttention(
        queries_NC[None, None],
        keys_NC[None, None],
        1.0,
        torch.arange(n)[None],
        n,
        0,
        grid_hw,
        hidden,
    )


def test_a_planted_stripe_is_found_and_nothing_else() -> None:
    n = 24
    queries, keys = torch.zeros(n, 2), torch.zeros(n, 2)
    queries[:, 0] = 1.0
    keys[[5, 17], 0] = 3.0  # every query scores these two e^3 times the others
    statistics = token_statistics(attention_of(keys, queries, (4, 6)))
    e = torch.tensor(3.0).exp().item()
    share = e / (22 + 2 * e)
    assert statistics.global_tokens() == [5, 17]
    assert statistics.received_N[5].item() == pytest.approx(n * share, rel=1e-5)
    assert statistics.reach_N[5] == 1 and statistics.reach_N[0] == 0
    summary = statistics.summary()
    assert summary["num_global"] == 2 and summary["reach_of_max"] == 1
    assert summary["global_share"] == pytest.approx(2 * share, rel=1e-5)
    assert summary["num_norm_outliers"] == 1
    assert summary["max_norm"] == pytest.approx(10 * 2**0.5)
    assert summary["median_norm"] == pytest.approx(2**0.5)


def test_a_token_that_only_its_neighbours_like_is_not_global() -> None:
    """Half the queries give all their weight to token 3: much received, little reach."""
    n = 24
    queries, keys = torch.zeros(n, 2), torch.zeros(n, 2)
    queries[: n // 2, 0] = 20.0
    keys[3, 0] = 1.0
    statistics = token_statistics(attention_of(keys, queries, (4, 6)))
    assert statistics.received_N[3] > 10 and statistics.reach_N[3] == 0.5
    assert statistics.global_tokens() == []
    assert statistics.global_tokens(min_reach=0.5) == [3]


def test_equal_attention_has_no_global_token() -> None:
    statistics = token_statistics(attention_of(torch.zeros(6, 2), torch.zeros(6, 2), (2, 3)))
    torch.testing.assert_close(statistics.received_N, torch.ones(6, dtype=torch.float64))
    assert statistics.summary()["num_global"] == 0 == statistics.summary()["global_share"]


@torch.no_grad()
def test_windowed_statistics_equal_slow_sums_over_tokens() -> None:
    tower = tower_of(**DETECTION)
    image = torch.randn(3, 12, 20, generator=torch.Generator().manual_seed(0))  # 3 x 5 tokens
    attention = read_attention(tower, image, [1])[0]
    statistics = token_statistics(attention)
    weights_NN = torch.stack([attention.from_token(i).mean(dim=0) for i in range(15)])
    window_of = [(i // 5 // 2, i % 5 // 2) for i in range(15)]
    for j in range(15):
        queries = [i for i in range(15) if window_of[i] == window_of[j]]
        column = weights_NN[queries, j]
        assert statistics.received_N[j].item() == pytest.approx(4 * column.mean().item(), rel=1e-4)
        assert statistics.reach_N[j].item() == pytest.approx((column > 0.25).float().mean().item())
    assert statistics.padding == pytest.approx(1 - weights_NN.sum(dim=1).mean().item(), rel=1e-4)
    torch.testing.assert_close(
        statistics.norm_N, attention.hidden_NC.double().square().sum(dim=1).sqrt()
    )
