"""Plain evaluation of DETA on PE Spatial G at 1824 px: the released detector, or one of your own.

Paper:    PE (arXiv:2504.13181, table 15).
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  python tools/test.py configs/detection/deta_pe_g16_coco_1824_eval.py \\
              deta_coco_1824pix.pth          (file of hf://facebook/PE-Detection)
Cost:     about 40 GB of GPU memory; float32 throughout, as the released script.
Expected: AP 65.2 on val2017 (README of DETA_pe, perception_models @ 3e352cc).
"""

_base_ = ["./deta_pe_g16_coco_1824.py"]
protocol = dict(id="coco-detection-deta-1824-eval")

evaluation_only = True
amp_dtype = None
grad_checkpointing = False
