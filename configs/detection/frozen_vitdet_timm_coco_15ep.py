"""Frozen detection on one layer of a timm encoder: like frozen_vitdet_coco_15ep.py, but global.

Paper:    PE (arXiv:2504.13181, figure 8 and appendix B.3.3).
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/detection/frozen_vitdet_timm_coco_15ep.py --launcher pytorch \\
              --encoder dinov2_b14 --cfg-options layer=-1
Cost:     8 GPUs x 8 images.
Expected: not measured yet; figure 8 gives 42.9 box AP for DINOv2 g at block 34 of 40, with windows.

timm's towers attend globally, so this is another protocol: 64x64 tokens for every encoder (896 px
at patch 14, 1024 px at patch 16), its own normalisation, positions interpolated to the image. Do
not compare its rows with those of frozen_vitdet_coco_15ep.py.
"""

_base_ = ["./frozen_vitdet_coco_15ep.py"]
protocol = dict(id="coco-detection-frozen-vitdet-global-15ep")

encoder = "dinov2_b14"
canvas = "$encoder.side_of_64_tokens"
strides, roi_strides = "$encoder.pyramid_strides", "$encoder.roi_strides"
pixel_mean, pixel_std = "$encoder.mean_255", "$encoder.std_255"
model = dict(backbone=dict(encoder_options=dict(_delete_=True)))
