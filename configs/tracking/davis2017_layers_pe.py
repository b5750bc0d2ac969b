"""DAVIS 2017 for every layer of PE Spatial G/14, as in table 36 of PE.

Paper:    PE (arXiv:2504.13181, tables 36 and 37, B.3.3): DINO's propagation, last 7 frames, at
          native resolution up to 448 or at 448 px, whichever is better. The best layer is chosen on
          the reported videos, as there, so it is optimistic; davis2017_v1 chooses on train. Step by
          step: docs/protocols/davis_pe.md.
Data:     DAVIS 2017, 480p, as it is unpacked: https://davischallenge.org/davis2017/code.html
Command:  python tools/test.py configs/tracking/davis2017_layers_pe.py
          another encoder: --encoder NAME
Cost:     not measured yet; one encoder pass over 1999 frames for all layers.
Expected: J&F by layer, 1-based as in the paper: 50: 61.5, 49: 61.4, 48: 61.5, 47: 61.3, 46: 61.1,
          45: 61.1, 44: 60.7, 43: 60.5, 42: 59.8, 41: 59.6, 40: 59.5, 32: 57.7, 21: 53.8, 11:
          41.6, 1: 16.2 (table 36). Blocks are counted from 0 here: 49 is the last. Best layer of
          other sizes: L 60.6, B 58.9, S 57.5, T 55.0 (table 37). Not reproduced here yet.
Choices:  448 px on the short side for every patch, 32 tokens of patch 14 and 28 of patch 16; sizes
          below, which PE also tries where they are native, are not. PE does not say how it resized
          frames (here Pillow's bicubic), how it rounded the longer side (here up to whole patches),
          whether it normalised features, its temperature, neighbourhood or number of neighbours
          (here those of DINO, without the final norm), nor its output rule (here DINO's).
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
weights = "released"
norm = False
layers = "all"
settings = [dict(last_frames=7, radius=12, neighbourhood="square", topk=5, temperature=0.1)]
size_rule, short_side = "pixels", 448
upsample, stretch = "patch", True
report = "best"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
