"""DAVIS 2017 for every layer of PE Spatial G/14, as in table 36 of PE.

Paper:    PE (arXiv:2504.13181, table 36 and B.3.3): DINO's propagation, last 7 frames, at native
          resolution up to 448 or at 448 px, whichever is better; here 32 patches on the short
          side, 448 px for patch 14. The best layer is chosen on the reported videos, as there, so
          it is optimistic; davis2017_v1 chooses on train.
Data:     DAVIS 2017, 480p, as it is unpacked: https://davischallenge.org/davis2017/code.html
Command:  python tools/test.py configs/tracking/davis2017_layers_pe.py --weights released
          another encoder: --encoder NAME
Cost:     not measured yet; one encoder pass over 1999 frames for all layers.
Expected: J&F by layer, 1-based as in the paper: 50: 61.5, 49: 61.4, 48: 61.5, 47: 61.3, 46: 61.1,
          45: 61.1, 44: 60.7, 43: 60.0, 42: 59.8, 41: 59.6, 40: 59.5, 32: 57.7, 21: 53.8, 11:
          41.6, 1: 16.2 (table 36). Blocks are counted from 0 here: 49 is the last. Not
          reproduced here yet.

Deviations: PE does not say how it resized frames, whether it normalised features, its temperature,
neighbourhood or number of neighbours; those of DINO are used, without the final norm, and the
longer side is rounded up to whole patches.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/tracking.py",
    "../_base_/datasets/davis2017.py",
]
protocol = dict(
    id="davis-layers-pe",
    version=1,
    task="tracking",
    dataset="davis2017",
    split="val",
    metric="J&F",
    higher_is_better=True,
)

encoder = "pe_spatial_g14_448"
weights = "random"
norm = False
layers = "all"
settings = [dict(last_frames=7, radius=12, neighbourhood="square", topk=5, temperature=0.1)]
size_rule, short_side = "dinov3", 32
upsample, stretch = "patch", True
report = "best"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
