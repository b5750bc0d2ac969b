"""DAVIS 2017 as DINO evaluates it: last layer, 480 px, square radius 12, top 5, 7 frames.

Paper:    DINO (arXiv:2104.14294, table 5; code facebookresearch/dino @ 7c446df,
          eval_video_segmentation.py). Step by step: docs/protocols/davis_dino.md.
Data:     DAVIS 2017, 480p, as it is unpacked: https://davischallenge.org/davis2017/code.html
Command:  python tools/test.py configs/tracking/davis2017_dino.py \\
              --encoder pe_spatial_s16_512
Cost:     not measured yet; one encoder pass over 1999 frames of 480 x 832.
Expected: J&F 61.8 for DINO ViT-S/16 (DINO, table 5). Not reproduced here yet. PE's numbers have
          another size: davis2017_layers_pe.
Choices:  Frames are decoded by Pillow and not by OpenCV, which may differ in the last grey level.
          Colours are normalised by the encoder's own mean and deviation (DINO: 0.228 for 0.229).
          timm resizes DINO's position grid to h x w; the script's scale has 0.1 patches more.
          Patches that do not divide 64, such as 14, run at 476 x 826; the script cannot run them.
          A label that is constant over the frame stays as it is (the script makes nan of it, which
          then wins every pixel), and cosines tie, not their exponentials, which merge in float32.
          The palette of written masks is DAVIS's own: indices are what is scored. An index below
          the highest that the first mask lacks is no object (there it scores 1); DAVIS has none.
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
weights = "released"
norm = "$encoder.has_final_norm"
layers = [-1]
settings = [dict(last_frames=7, radius=12, neighbourhood="square", topk=5, temperature=0.1)]
size_rule, short_side = "dino", 480
upsample, stretch = "patch", True
report = "first"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
