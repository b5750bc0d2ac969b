"""Frozen detection: Mask R-CNN on one layer of any encoder, as PE's layer analysis does it.

Paper:    PE (arXiv:2504.13181, figure 8 and appendix B.3.3): encoder frozen, no global attention
          (1024-px images in windows of 32x32 tokens), patch 16, a single layer, only pyramid and
          heads trained, 15 epochs.
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/detection/frozen_vitdet_coco_15ep.py --launcher pytorch \\
              --encoder pe_core_g14_448 --cfg-options layer=37
          Encoders of timm: frozen_vitdet_timm_coco_15ep.py.
Cost:     8 GPUs x 8 images.
Expected: box AP 43.2 for PE Core G at block 38 of 50 (counted from 1; table 36 and figure 8), 46.1
          for PE Spatial G at layer 40 or 42 and 44.5 at its last.

Step by step: docs/protocols/frozen_vitdet_pe.md. Choices: the layer is the one asked for; the paper
shows the best on val2017.

`layer` counts blocks from 0, negatives from the end. What the paper does not say is ours: batch 64,
AdamW with lr 1e-4 and weight decay 0.1, drops at the same shares of the run as when fine-tuned.
"""

_base_ = ["./vitdet_pe_spatial_g14_coco_36ep.py"]
protocol = dict(id="coco-detection-frozen-vitdet-15ep")

encoder = "pe_spatial_g14_448"
frozen = True
global_blocks = []
drop_path_rate = 0.0
grad_checkpointing = False
batch_size = 8
processes = 8
lr = 1e-4
layer_decay = 1.0
max_iters, lr_drops = 27656, [24583, 26631]
warmup_end = 251
