"""Global tokens: which layers have tokens that all others attend to.

Perception Encoder, arXiv:2504.13181, section 4 and its layer analysis: from layer 33 on, PE core G
has a few background tokens that all tokens attend to, seen as vertical stripes in the attention
matrix. Such tokens often have a large norm (Darcet et al., arXiv:2309.16588). Neither paper
gives a threshold; those below are ours and every number that they act on is reported.

What is counted, for every token j, over the patch queries that can see it (all, or those of its
window) and over heads:
- received: mean weight that it gets, times the number of keys; 1 is its share if all got alike.
- reach: part of the queries whose weight for it, averaged over heads, is above the uniform one.
  A neighbour that only its surroundings look at has little reach; a stripe has a reach near 1.

Shape legend: N tokens (prefix first), S keys of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pe_dense.analysis.attention import BlockAttention

MIN_RECEIVED = 5.0  # times the uniform share
MIN_REACH = 0.8
NORM_OUTLIER = 3.0  # times the median norm


@dataclass(frozen=True)
class LayerTokens:
    """Token statistics of one block and one image.

    Attributes:
        received_N: See the module; 1 is uniform.
        reach_N: 0..1.
        norm_N: Length of every token behind the block.
        padding: Mean weight that goes to the padding of windows, 0 in global blocks.
        num_prefix_tokens: Prefix tokens, which come first and count in none of the sums below.
    """

    received_N: Tensor
    reach_N: Tensor
    norm_N: Tensor
    padding: float
    num_prefix_tokens: int

    def global_tokens(
        self, min_received: float = MIN_RECEIVED, min_reach: float = MIN_REACH
    ) -> list[int]:
        """Patch tokens that are global, as 0-based places on the grid, row-major."""
        received, reach = (x[self.num_prefix_tokens :] for x in (self.received_N, self.reach_N))
        return ((received >= min_received) & (reach >= min_reach)).nonzero()[:, 0].tolist()

    def summary(self) -> dict[str, float]:
        """Numbers for a table; all of patch tokens."""
        first = self.num_prefix_tokens
        received, reach, norm = (x[first:] for x in (self.received_N, self.reach_N, self.norm_N))
        found = self.global_tokens()
        # The middle of the sorted norms; torch.median takes the lower of two, quantile has a limit.
        ordered = norm.sort().values
        median = float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)
        num_outliers = int((norm > NORM_OUTLIER * median).sum())
        return {
            "num_global": len(found),
            "global_share": float(received[found].sum() / self.received_N.sum()) if found else 0.0,
            "max_received": float(received.max()),
            "reach_of_max": float(reach[received.argmax()]),
            "median_norm": median,
            "max_norm": float(norm.max()),
            "num_norm_outliers": num_outliers,
            "padding": self.padding,
        }


def token_statistics(attention: BlockAttention) -> LayerTokens:
    """Norm and attention columns of one block, one head and window at a time.

    Memory: one (S, S) float32 matrix a window, or a few.
    """
    n, first = attention.num_tokens, attention.num_prefix_tokens
    device = attention.queries_VMSD.device
    received_N = torch.zeros(n, dtype=torch.float64, device=device)
    reach_N = torch.zeros_like(received_N)
    padding, num_queries = 0.0, 0
    for window, tokens_S in enumerate(attention.tokens_VS):
        is_query = tokens_S >= first  # patches; neither padding nor prefix
        is_key = tokens_S >= 0
        count = int(is_query.sum())
        if not count:  # no patch in this window
            continue
        mean_QS = sum(
            attention.weights_of_window(window, head)[is_query]
            for head in range(attention.num_heads)
        ) / float(attention.num_heads)
        num_keys = len(tokens_S)
        received_N[tokens_S[is_key]] = (mean_QS.double().mean(dim=0) * num_keys)[is_key]
        above_S = (mean_QS > 1.0 / num_keys).double().mean(dim=0)
        reach_N[tokens_S[is_key]] = above_S[is_key]
        padding += float(mean_QS[:, ~is_key].double().sum())
        num_queries += count
    return LayerTokens(
        received_N.cpu(),
        reach_N.cpu(),
        attention.hidden_NC.double().norm(dim=-1).cpu(),
        padding / num_queries,
        first,
    )
