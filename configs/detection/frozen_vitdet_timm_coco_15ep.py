"""Frozen detection on one layer of a timm encoder: the protocol of frozen_vitdet_coco_15ep.py.

Paper:    PE (arXiv:2504.13181, figure 8 and appendix B.3.3).
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/detection/frozen_vitdet_timm_coco_15ep.py --launcher pytorch \\
              --encoder dinov2_b14 --cfg-options layer=-1
Cost:     8 GPUs x 8 images.
Expected: box AP 42.9 for DINOv2 g at block 34 of 40 with windows (table 8 of the paper's figure 8).

timm's towers attend globally and cannot be cut into windows here, so this is another protocol: global
attention, positions interpolated to the whole image, patches resampled to 16 by timm. Do not compare
its rows with those of frozen_vitdet_coco_15ep.py.
"""

_base_ = ["./frozen_vitdet_coco_15ep.py"]
protocol = dict(id="coco-detection-frozen-vitdet-global-15ep")

encoder = "dinov2_b14"
model = dict(backbone=dict(encoder_options=dict(_delete_=True, patch_size=16)))
