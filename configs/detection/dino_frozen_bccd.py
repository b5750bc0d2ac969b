"""DINO on a frozen encoder for blood cells (BCCD): how good are the features as they are?

Paper:    DINO (arXiv:2203.03605); the encoder is the free variable, by default PE Spatial T/16.
Data:     as in dino_pe_t16_bccd.py.
Command:  python tools/train.py configs/detection/dino_frozen_bccd.py --encoder NAME \\
              --weights released --cfg-options data_root=DIR
Cost:     about 20 min on 2 CPU cores for a T encoder, a few minutes on a GPU.
Expected: not measured yet with released weights.
"""

_base_ = ["./dino_pe_t16_bccd.py"]
protocol = dict(id="bccd-detection-frozen", version=1)

weights = "released"
max_epochs = 24
model = dict(backbone=dict(frozen=True))
