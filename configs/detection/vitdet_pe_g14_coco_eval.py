"""Evaluation of the released ViTDet Mask R-CNNs on COCO.

Paper:    PE (arXiv:2504.13181, table 14).
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  python tools/test.py configs/detection/vitdet_pe_g14_coco_eval.py \\
              mask_rcnn_PEspatial_G_coco36ep.pth      (file of hf://facebook/PE-Detection)
          python tools/test.py configs/detection/vitdet_pe_g14_coco_eval.py \\
              mask_rcnn_PEcore_G_coco75ep.pth --encoder pe_core_g14_448
Cost:     about 20 GB of GPU memory; float32.
Expected: box AP 57.8, mask AP 50.3 (Spatial) and 57.0, 49.8 (Core) on val2017 (README of
          apps/detection, perception_models @ 3e352cc).
"""

_base_ = ["./vitdet_pe_spatial_g14_coco_36ep.py"]
protocol = dict(id="coco-detection-vitdet-g-eval")

evaluation_only = True
grad_checkpointing = False
