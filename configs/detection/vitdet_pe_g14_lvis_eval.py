"""Evaluation of the released ViTDet Mask R-CNNs on LVIS v1.

Paper:    PE (arXiv:2504.13181, table 14).
Data:     LVIS v1 with the images of COCO 2017: python tools/prepare_data.py lvis DIR
Command:  python tools/test.py configs/detection/vitdet_pe_g14_lvis_eval.py \\
              mask_rcnn_PEcore_G_lvis75ep.pth         (file of hf://facebook/PE-Detection)
          python tools/test.py configs/detection/vitdet_pe_g14_lvis_eval.py \\
              mask_rcnn_PEspatial_G_lvis75ep.pth --encoder pe_spatial_g14_448
Cost:     about 20 GB of GPU memory; float32.
Expected: box AP 51.9, mask AP 47.9 (Core) and 54.2, 49.3 (Spatial) (table 14).
"""

_base_ = ["./vitdet_pe_core_g14_lvis_75ep.py"]
protocol = dict(id="lvis-detection-vitdet-g-eval")

evaluation_only = True
grad_checkpointing = False
