"""Records of a whole leaderboard: several tasks, families, seeds, papers, layers, hostile text."""

from __future__ import annotations

from pe_dense.results.encoder_rows import Findings
from pe_dense.results.rank_groups import Rank
from pe_dense.results.record import Record
from pe_dense.results.store import record_path

ENCODERS = {
    "pe_spatial_g14_448": 1852e6, "pe_spatial_b16_512": 86e6, "pe_spatial_t16_512": 5.7e6,
    "pe_core_b16_224": 86e6, "dinov2_b14": 86e6, "dinov3_b16": 86e6, "siglip2_b16_512": 93e6,
    "timm:vit_base_patch16_clip_224.openai": 86e6,
}  # fmt: skip
PROTOCOLS = {
    "coco-deta": ("detection", "AP", True, 0.50, 0.010, 5000),
    "ade20k-linear-v1": ("segmentation", "mIoU", True, 0.42, 0.008, 2000),
    "nyu-linear-v1": ("depth", "rmse", False, 0.42, 0.02, 654),
    "davis-v1": ("tracking", "J&F", True, 0.61, 0.07, 61),
}
MADE = dict.fromkeys(("method", "stretch", "thin_classes"))
HOSTILE = "</script><img src=x onerror=\"window.hacked=1\"><b>bold</b> & 'quoted'"


def many_records(make_record, make_reported) -> tuple[list[Record], Findings]:
    """About 40 records and the ranks of some."""
    records = []
    for p, (id_, (task, metric, higher, base, half, items)) in enumerate(PROTOCOLS.items()):
        for e, (name, params) in enumerate(ENCODERS.items()):
            score = base + (0.012 if higher else -0.012) * ((7 - e) % 8) + 0.003 * p
            ci = dict(low=score - half, high=score + half, unit="image", num_units=items)
            layers = {str(i): score * (0.6 + 0.4 * (1 - abs(i - 8) / 12)) for i in range(12)}
            records.append(
                make_record({
                    "task": task, "protocol.id": id_, "protocol.metric": metric,
                    "protocol.higher_is_better": higher, "dataset.name": id_.split("-")[0],
                    "dataset.num_items": items, "encoder.name": name,
                    "encoder.num_params": int(params),
                    "encoder.weights": "w.pt", "encoder.weights_sha256": "abcdef12" * 8,
                    "scores": {metric: score, "second": 0.5 + 0.01 * e},
                    "ci95": {metric: [{**ci, "resamples": 1000, **MADE}]},
                    "by_layer": {metric: layers} if task == "segmentation" and e < 3 else None,
                    "cost.train_s": 1000.0 + 700 * e, "cost.eval_s": 60.0,
                    "notes": HOSTILE if e == 0 else "",
                })
            )  # fmt: skip
        records.append(
            make_reported({
                "task": task, "protocol.id": id_, "protocol.metric": metric,
                "protocol.higher_is_better": higher, "dataset.name": id_.split("-")[0],
                "encoder.name": "pe_spatial_g14_448", "scores": {metric: base + 0.1},
                "source.mark": "settings unknown",
            })
        )  # fmt: skip
    seeds = [
        make_record({
            "protocol.id": "bccd-detection", "seed": seed, "scores": {"AP": 0.5 + 0.01 * seed},
        })
        for seed in range(3)
    ]  # fmt: skip
    ranks = {
        str(record_path(record)): Rank(record.encoder.name, 0.5, 1 + i // 3, 0.2, 1, False)
        for i, record in enumerate(r for r in records if r.protocol.id == "coco-deta")
        if record.origin == "measured"
    }
    return records + seeds, Findings(ranks)
