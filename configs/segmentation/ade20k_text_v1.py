"""ADE20K by the names of its 150 classes: which layer and read-out of a contrastive tower work.

Paper:    none; the protocol of this project. Read-outs of MaskCLIP (arXiv:2112.01071), SCLIP
          (arXiv:2312.01597) and ClearCLIP (arXiv:2407.12442), and any layer through the pool;
          chosen on held-out training images, never on the reported split. No background.
Held out: 2,021 of 20,210 training images, one by one in the order of a hash.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  python tools/test.py configs/segmentation/ade20k_text_v1.py --encoder pe_core_b16_224
Cost:     not measured yet; one encoder pass over 4,021 images in windows.
Expected: not measured yet. Near: 16.45 for CLIP B/16 by SCLIP's own protocol (its repository).
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/segmentation_text.py",
    "../_base_/segmentation_text_data.py",
    "../_base_/datasets/ade20k.py",
]
protocol = dict(
    id="ade20k-text",
    version=1,
    task="segmentation",
    dataset="ade20k",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
holdout_group = "image"
background, thresholds = None, []
