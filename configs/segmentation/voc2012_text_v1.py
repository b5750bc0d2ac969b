"""PASCAL VOC 2012 by names, with background: which layer and read-out of a contrastive tower work.

Paper:    none; the protocol of this project. Read-outs of MaskCLIP (arXiv:2112.01071), SCLIP
          (arXiv:2312.01597) and ClearCLIP (arXiv:2407.12442), and any layer through the pool;
          chosen on held-out training images, never on the reported split. The background has no
          prompt: it is where no class has a probability of the threshold, chosen with the rest.
Held out: 1,058 of 10,582 training images, one by one in the order of a hash.
Data:     VOC 2012 with the labels of SBD: python tools/prepare_data.py voc DIR --aug SBD_DIR
Command:  python tools/test.py configs/segmentation/voc2012_text_v1.py --encoder pe_core_b16_224
Cost:     not measured yet; one encoder pass over 2,507 images in windows.
Expected: not measured yet. Near: 59.63 for CLIP B/16 by SCLIP's own protocol (its repository),
          whose background has prompts.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/segmentation_text.py",
    "../_base_/segmentation_text_data.py",
    "../_base_/datasets/voc2012.py",
]
protocol = dict(
    id="voc2012-text",
    version=1,
    task="segmentation",
    dataset="voc2012",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
holdout_group = "image"
model = dict(
    names=dict(
        background=[],
        diningtable=["dining table"],
        pottedplant=["potted plant"],
        tvmonitor=["tv monitor"],
    ),
)
background, thresholds = "background", [0.1, 0.3, 0.5, 0.7, 0.9]
