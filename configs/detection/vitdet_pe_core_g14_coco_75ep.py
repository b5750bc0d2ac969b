"""ViTDet Mask R-CNN on PE Core G for COCO, 75 epochs.

Paper:    PE (arXiv:2504.13181, table 14), ViTDet (arXiv:2203.16527).
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d \\
              --rdzv-endpoint HOST:29500 --rdzv-id NAME tools/train.py \\
              configs/detection/vitdet_pe_core_g14_coco_75ep.py --launcher pytorch
Cost:     as released 64 GPUs x 1 image, float16.
Expected: box AP 57.0, mask AP 49.8 on val2017 (README of apps/detection, perception_models @
          3e352cc, mask_rcnn_PEcore_G_coco75ep.pth).

Choice: the warm-up takes 188 iterations; as released 187.5, at most 0.3 % of the rate beside it.
"""

_base_ = ["./vitdet_pe_spatial_g14_coco_36ep.py"]
protocol = dict(id="coco-detection-vitdet-g-75ep")

encoder = "pe_core_g14_448"
max_iters, lr_drops = 138281, [122916, 133159]
warmup_end = 189  # full rate at 188; as released at 187.5
