"""DETA on PE Spatial L/14 for COCO: 12 epochs on one to eight GPUs.

Paper:    DETA (arXiv:2212.06137), PE (arXiv:2504.13181); our recipe, see deta_pe_b16_coco_12ep.py.
          Patch 14 is resampled to 16 as the encoder loads; the 32x32 positions stay.
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nproc-per-node 8 tools/train.py configs/detection/deta_pe_l14_coco_12ep.py \\
              --launcher pytorch --amp
Cost:     8 GPUs x 2 images with activation checkpointing; for one GPU lower lr and batch_size as
          deta_pe_b16_coco_12ep.py says.
Expected: not measured yet.
"""

_base_ = ["./deta_pe_b16_coco_12ep.py"]
protocol = dict(id="coco-detection-deta-l14-12ep")

encoder = "pe_spatial_l14_448"
global_blocks = [5, 11, 17, 23]
drop_path_rate = 0.3
layer_decay = 0.85
grad_checkpointing = True
