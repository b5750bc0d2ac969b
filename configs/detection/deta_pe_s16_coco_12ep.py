"""DETA on PE Spatial S/16 for COCO: 12 epochs on one to eight GPUs.

Paper:    DETA (arXiv:2212.06137), PE (arXiv:2504.13181); our recipe, see deta_pe_b16_coco_12ep.py.
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nproc-per-node 8 tools/train.py configs/detection/deta_pe_s16_coco_12ep.py \\
              --launcher pytorch
Cost:     8 GPUs x 2 images, or as deta_pe_b16_coco_12ep.py says for one.
Expected: not measured yet.
"""

_base_ = ["./deta_pe_b16_coco_12ep.py"]
protocol = dict(id="coco-detection-deta-s16-12ep")

encoder = "pe_spatial_s16_512"
drop_path_rate = 0.0
