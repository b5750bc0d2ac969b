"""DINO on a fine-tuned encoder for blood cells (BCCD), from released weights.

Paper:    DINO (arXiv:2203.03605); the encoder is the free variable, by default PE Spatial T/16.
          Layer-wise decay 0.8 as in ViTDet (arXiv:2203.16527) for base models.
Data:     as in dino_pe_t16_bccd.py.
Command:  python tools/train.py configs/detection/dino_finetune_bccd.py --encoder NAME \\
              --weights released --cfg-options data_root=DIR
Cost:     about 20 min on 2 CPU cores for a T encoder, a few minutes on a GPU.
Expected: not measured yet with released weights.
"""

_base_ = ["./dino_pe_t16_bccd.py"]
protocol = dict(id="bccd-detection-finetune", version=1)

weights = "released"
max_epochs = 24
lr = 1e-4
backbone_lr_mult, layer_decay = 1.0, 0.8
