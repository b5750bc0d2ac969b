"""DETA on PE Spatial B/16 for COCO: 12 epochs on one to eight GPUs.

Paper:    DETA (arXiv:2212.06137), PE (arXiv:2504.13181); PE published detectors on G only, this
          recipe is ours: canvas 1024, windows as large as the encoder's native grid (so that
          windowed blocks see the positions they were trained with), four global blocks, layer-wise
          decay as in ViTDet (arXiv:2203.16527).
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nproc-per-node 8 tools/train.py configs/detection/deta_pe_b16_coco_12ep.py \\
              --launcher pytorch
          One GPU: python tools/train.py configs/detection/deta_pe_b16_coco_12ep.py --amp \\
              --cfg-options lr=3.5e-5 batch_size=2
Cost:     8 GPUs x 2 images; 16 GB of memory each with --amp is the aim, not measured yet.
Expected: not measured yet.

lr is for a total batch of 16; scale it with the square root of the batch (1e-4 * sqrt(2 / 16) is
3.5e-5).
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/deta.py",
    "../_base_/deta_training.py",
    "../_base_/datasets/coco.py",
]
protocol = dict(
    id="coco-detection-deta-b16-12ep",
    version=1,
    task="detection",
    dataset="coco",
    split="val",
    metric="AP",
    higher_is_better=True,
)

encoder = "pe_spatial_b16_512"
weights = "released"
global_blocks = [2, 5, 8, 11]
drop_path_rate = 0.1
model = dict(
    backbone=dict(
        encoder_options=dict(
            patch_size=16,
            image_size=512,
            cls_token=False,
            window_size=32,
            global_blocks="$global_blocks",
            pos_embed="tile",
            rope_grid=32,  # a step of 1 in windows, as in pre-training
            drop_path_rate="$drop_path_rate",
            drop_path_schedule="linear",
        ),
    ),
)
amp_dtype = None  # --amp sets it to bfloat16
grad_checkpointing = False
canvas = 1024
batch_size = 2
processes = 8
lr = 1e-4
backbone_lr_mult, layer_decay = 1.0, 0.8
max_epochs, lr_drop = 12, 11
val_interval = 1
