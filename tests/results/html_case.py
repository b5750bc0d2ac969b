"""A leaderboard as it may look one day: 42 records, five protocols, invented but plausible scores.

One table of scores for each protocol; intervals, layers, cost and papers follow from it.
"""

from __future__ import annotations

from pe_dense.results.encoder_rows import Findings
from pe_dense.results.rank_groups import Rank
from pe_dense.results.record import Record
from pe_dense.results.store import record_path

NUM_PARAMS = {
    "pe_spatial_g14_448": 1852e6, "pe_spatial_l14_448": 317e6, "pe_spatial_b16_512": 86e6,
    "pe_spatial_s16_512": 22e6, "pe_spatial_t16_512": 5.7e6, "pe_core_g14_448": 1852e6,
    "dinov2_l14": 304e6, "dinov3_l16": 303e6, "dinov3_b16": 86e6, "siglip2_so400m_16_512": 413e6,
    "timm:vit_base_patch16_clip_224.openai": 86e6,
}  # fmt: skip
DEPTHS = {"g14": 50, "l14": 24, "l16": 24, "b16": 12, "s16": 12, "t16": 12}

COCO = {
    "pe_spatial_g14_448": 0.563, "dinov3_l16": 0.559, "pe_spatial_l14_448": 0.547,
    "dinov2_l14": 0.531, "pe_spatial_b16_512": 0.508, "dinov3_b16": 0.506,
    "siglip2_so400m_16_512": 0.498, "timm:vit_base_patch16_clip_224.openai": 0.441,
}  # fmt: skip
ADE = {
    "dinov3_l16": 0.5385, "pe_spatial_g14_448": 0.4932, "dinov2_l14": 0.4771,
    "pe_spatial_l14_448": 0.4690, "pe_spatial_b16_512": 0.4444, "siglip2_so400m_16_512": 0.4083,
    "pe_core_g14_448": 0.3904, "timm:vit_base_patch16_clip_224.openai": 0.3521,
}  # fmt: skip
NYU = {
    "dinov3_l16": 0.309, "pe_spatial_g14_448": 0.333, "dinov2_l14": 0.345,
    "pe_spatial_b16_512": 0.389, "siglip2_so400m_16_512": 0.493, "pe_spatial_t16_512": 0.5205,
}  # fmt: skip
DAVIS = {
    "dinov3_l16": 0.7313, "pe_spatial_g14_448": 0.6152, "dinov2_l14": 0.6120,
    "pe_spatial_l14_448": 0.6049, "pe_core_g14_448": 0.5688, "siglip2_so400m_16_512": 0.4931,
}  # fmt: skip
# protocol id: task, data, split, items, metric, higher is better, scores, half an interval,
# other metrics: name -> (factor, offset) on the main one.
PROTOCOLS = {
    "coco-deta-pe": (
        "detection", "COCO 2017", "val", 5000, "AP", True, COCO, 0.006,
        {"AP50": (1, 0.18), "AP75": (1.08, 0), "APs": (0.62, 0), "APm": (1.06, 0),
         "APl": (1.25, 0), "AP/person": (1.1, 0), "AP/bicycle": (0.7, 0), "AP/car": (0.9, 0)},
    ),
    "ade20k-linear-dinov3": (
        "segmentation", "ADE20K", "val", 2000, "mIoU", True, ADE, 0.009,
        {"aAcc": (0.5, 0.57), "mAcc": (1, 0.12)},
    ),
    "nyu-dpt-pe": (
        "depth", "NYUv2", "test", 654, "rmse", False, NYU, 0.014,
        {"abs_rel": (0.26, 0), "delta1": (-0.4, 1.08)},
    ),
    "davis-dinov3-m": (
        "tracking", "DAVIS 2017", "val", 30, "J&F", True, DAVIS, 0.048,
        {"J": (1, -0.022), "F": (1, 0.022)},
    ),
}  # fmt: skip
REPORTED = {
    "coco-deta-pe": {"pe_spatial_g14_448": 0.570, "pe_core_g14_448": 0.552},
    "ade20k-linear-dinov3": {"dinov3_l16": 0.543, "dinov2_l14": 0.477, "pe_core_g14_448": 0.389},
    "davis-dinov3-m": {"dinov3_l16": 0.733, "dinov2_l14": 0.609, "webdino_7b14": 0.571},
}
HOSTILE = "</script><img src=x onerror=\"window.hacked=1\"><b>bold</b> & 'quoted' `x` @STYLE@"


def all_records(make_record, make_reported) -> tuple[list[Record], Findings]:
    """The records, and ranks of those under two protocols."""
    records = []
    for id_ in PROTOCOLS:
        records += [make_record(changes) for changes in _measured(id_)]
        records += [make_reported(changes) for changes in _reported(id_)]
    records += [make_record(changes) for changes in _seeds()]
    ranks = {}
    for id_, sizes in {"coco-deta-pe": (2, 3, 8), "davis-dinov3-m": (1, 5, 6)}.items():
        mine = [r for r in records if r.protocol.id == id_ and r.origin == "measured"]
        for i, record in enumerate(mine):
            group = 1 + sum(i >= size for size in sizes)
            score = record.scores[record.protocol.metric]
            p = 1.0 if i == 0 else 0.21 if group == 1 else 0.001
            rank = Rank(record.encoder.name, score, group, p, 1, id_.startswith("davis"))
            ranks[str(record_path(record))] = rank
    return records, Findings(ranks)


def hostile_records(make_record, make_reported) -> list[Record]:
    """Two records with markup in every free text, and in a name, which records refuse."""
    protocol = {"protocol.id": "hostile", "dataset.name": HOSTILE, "dataset.split": HOSTILE}
    measured = make_record({
        **protocol, "notes": HOSTILE, "command": HOSTILE, "versions": {HOSTILE: HOSTILE},
        "hardware.cpu": HOSTILE, "hardware.gpu": HOSTILE,
    })  # fmt: skip
    source = {"paper": HOSTILE, "table": HOSTILE, "mark": HOSTILE}
    reported = make_reported({**protocol, "source": source, "notes": HOSTILE})
    object.__setattr__(measured.encoder, "name", HOSTILE)  # past the checks
    return [measured, reported]


def _protocol(id_: str) -> dict:
    task, data, split, items, metric, higher, *_ = PROTOCOLS[id_]
    return {
        "task": task, "protocol.id": id_, "protocol.metric": metric,
        "protocol.higher_is_better": higher, "dataset.name": data, "dataset.split": split,
        "dataset.num_items": items,
    }  # fmt: skip


def _measured(id_: str) -> list[dict]:
    task, _, _, items, metric, _, scores, half, others = PROTOCOLS[id_]
    found = []
    for i, (name, score) in enumerate(scores.items()):
        params = NUM_PARAMS[name]
        unit = "video" if task == "tracking" else "image"
        intervals = [_interval(score, half * (1 + 0.07 * i), unit, items)]
        if task == "tracking":
            intervals.append(_interval(score, 0.6 * half, "object", 61))
        depth = DEPTHS.get(next((p for p in name.split("_") if p in DEPTHS), ""), 0)
        has_layers = task == "segmentation" and depth > 0
        digest = f"{(i + 1) * 0x1F3A5C7B:08x}"[:8] * 8
        found.append({
            **_protocol(id_),
            "encoder.name": name, "encoder.num_params": int(params), "encoder.weights": "w.pt",
            "encoder.weights_sha256": digest,
            "scores": {metric: score, **{n: a * score + b for n, (a, b) in others.items()}},
            "ci95": {metric: intervals},
            "by_layer": {metric: _layers(score, depth, name)} if has_layers else None,
            "command": f"python tools/benchmark.py {task} --encoder {name} --protocol {id_}",
            "cost": {"train_s": 600 + params**0.5, "eval_s": 30 + params / 2e7,
                     "peak_memory_gib": 4 + params / 1e8},
            "hardware": {"cpu": "AMD EPYC 9B14", "cores": 32, "gpu": "NVIDIA H100 80GB HBM3"},
            "versions": {"python": "3.12.3", "torch": "2.9.1", "pe_dense": "0.2.0"},
            "evidence": {"file": f"{id_}-v1.seed0.{digest[:8]}.npz", "sha256": "e" * 64},
        })  # fmt: skip
    return found


def _interval(score: float, half: float, unit: str, num_units: int) -> dict:
    low, high = score - half, score + 0.95 * half
    bounds = {"low": low, "high": high, "unit": unit, "num_units": num_units, "resamples": 1000}
    return {**bounds, **dict.fromkeys(("method", "stretch", "thin_classes"))}


def _layers(best: float, depth: int, name: str) -> dict[str, float]:
    """Rises, then falls towards the last layer, least where the encoder was tuned for it."""
    fall = {"pe_core": 0.34, "pe_spat": 0.06}.get(name[:7], 0.02)
    top = 0.72 if name.startswith("pe_core") else 0.93
    layers = {}
    for i in range(depth):
        x = i / (depth - 1)
        gap = 0.75 * ((top - x) / top) ** 2 if x <= top else fall * ((x - top) / (1 - top)) ** 1.5
        layers[str(i)] = best * (1 - gap)
    return layers


def _reported(id_: str) -> list[dict]:
    metric = PROTOCOLS[id_][4]
    return [
        {
            **_protocol(id_), "encoder.name": name, "scores": {metric: score},
            "dataset.num_items": None,
            "source.paper": "arXiv:2508.10104 (DINOv3)" if "dino" in name else "arXiv:2504.13181",
            "source.table": f"Table {3 + i}", "source.mark": "settings unknown" if i else "",
        }
        for i, (name, score) in enumerate(REPORTED.get(id_, {}).items())
    ]  # fmt: skip


def _seeds() -> list[dict]:
    """Two encoders under one protocol, three seeds each; no interval, no rank."""
    scores = {"pe_spatial_t16_512": (0.517, 0.509, 0.521), "pe_core_t16_384": (0.502, 0.498, 0.507)}
    return [
        {"encoder.name": name, "seed": seed, "scores": {"AP": score, "AP50": score + 0.28}}
        for name, values in scores.items()
        for seed, score in enumerate(values)
    ]
