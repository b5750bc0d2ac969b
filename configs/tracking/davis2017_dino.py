"""DAVIS 2017 as DINO evaluates it: last layer, 480 px, square radius 12, top 5, 7 frames.

Paper:    DINO (arXiv:2104.14294, table 5; code facebookresearch/dino @ 7c446df); PE follows it
          (arXiv:2504.13181, B.3.3) at a resolution that it does not state.
Data:     DAVIS 2017, 480p, as it is unpacked: https://davischallenge.org/davis2017/code.html
Command:  python tools/test.py configs/tracking/davis2017_dino.py \\
              --encoder pe_spatial_s16_512 --weights released
Cost:     not measured yet; one encoder pass over 1999 frames of 480 x 832.
Expected: J&F 61.8 for DINO ViT-S/16 (DINO, table 5). PE: best layer 61.5 (G), 60.6 (L), 58.9 (B),
          57.5 (S), 55.0 (T), last layer 61.5, 60.1, 58.4, 57.5, 54.6 (PE, table 37), at most 448
          px. Not reproduced here yet.

Deviations: colours are normalised by the encoder's own mean and deviation (DINO: 0.228 for 0.229);
patches that do not divide 64, such as 14, run at 476 x 826.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/tracking.py",
    "../_base_/datasets/davis2017.py",
]
protocol = dict(
    id="davis-dino",
    version=1,
    task="tracking",
    dataset="davis2017",
    split="val",
    metric="J&F",
    higher_is_better=True,
)

encoder = "pe_spatial_s16_512"
weights = "random"
norm = "$encoder.has_final_norm"
layers = [-1]
settings = [dict(last_frames=7, radius=12, neighbourhood="square", topk=5, temperature=0.1)]
size_rule, short_side = "dino", 480
upsample, stretch = "patch", True
report = "first"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
