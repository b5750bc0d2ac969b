"""DAVIS 2017 by the rules of DINOv3's tracking notebook: 960 px, one setting, its output rule.

Paper:    none has numbers of it. It is the only code for tracking that DINOv3 released
          (facebookresearch/dinov3 @ 6876159, notebooks/segmentation_tracking.ipynb), for one video,
          here on those of DAVIS. Step by step: docs/protocols/davis_dinov3_notebook.md.
Data:     DAVIS 2017, 480p, as it is unpacked: https://davischallenge.org/davis2017/code.html
Command:  python tools/test.py configs/tracking/davis2017_dinov3_notebook.py \\
              --encoder dinov3_s16
Cost:     not measured yet; one encoder pass over 1999 frames of 960 x 1712.
Expected: not measured yet. The numbers of the paper's table 5 are of another rule and a chosen
          setting: davis2017_dinov3_medium has their size.
Choices:  The output rule is the notebook's: each pixel takes its token's labels, each label is
          stretched to 0..1 over the frame, 0 where it is constant, then the best label. The paper's
          rule, bilinear to the native size and then the best label, is that of
          davis2017_dinov3_{small,medium,large}. Colours are normalised by the encoder's own mean
          and deviation, which for DINOv3 are the notebook's. Scored as DAVIS 2017 is; the notebook
          scores nothing.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/tracking.py",
    "../_base_/datasets/davis2017.py",
]
protocol = dict(
    id="davis-dinov3-notebook",
    version=1,
    task="tracking",
    dataset="davis2017",
    split="val",
    metric="J&F",
    higher_is_better=True,
)

encoder = "pe_spatial_s16_512"
weights = "released"
norm = "$encoder.has_final_norm"
layers = [-1]
settings = [dict(last_frames=7, radius=12, neighbourhood="circle", topk=5, temperature=0.2)]
size_rule, short_side = "pixels", 960
upsample, stretch = "nearest", True
report = "first"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
