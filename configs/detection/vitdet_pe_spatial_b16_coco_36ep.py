"""ViTDet Mask R-CNN on PE Spatial B/16 for COCO, 36 epochs.

Paper:    ViTDet (arXiv:2203.16527), PE (arXiv:2504.13181). PE published no detector of this
          size: schedule, windows and data are those of vitdet_pe_spatial_g14_coco_36ep.py; learning
          rate, drop path and decay are what ViTDet and table 24 use for encoders of this size.
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/detection/vitdet_pe_spatial_b16_coco_36ep.py --launcher pytorch
Cost:     8 GPUs x 8 images; fewer images at once: --cfg-options batch_size=N lr=1e-4*N/8.
Expected: not measured yet.
"""

_base_ = ["./vitdet_pe_spatial_g14_coco_36ep.py"]
protocol = dict(id="coco-detection-vitdet-b-36ep")

encoder = "pe_spatial_b16_512"
global_blocks = [2, 5, 8, 11]
drop_path_rate = 0.1
grad_checkpointing = False
batch_size = 8
processes = 8
lr = 1e-4
layer_decay = 0.7
