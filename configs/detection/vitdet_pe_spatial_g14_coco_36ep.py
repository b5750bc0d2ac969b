"""ViTDet Mask R-CNN on PE Spatial G for COCO, 36 epochs.

Paper:    PE (arXiv:2504.13181, table 14), ViTDet (arXiv:2203.16527).
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d \\
              --rdzv-endpoint HOST:29500 --rdzv-id NAME tools/train.py \\
              configs/detection/vitdet_pe_spatial_g14_coco_36ep.py --launcher pytorch
Cost:     as released 64 GPUs x 1 image, float16. Fewer GPUs: keep 64 images in total by
          --cfg-options batch_size=N, or scale lr.
Expected: box AP 57.8, mask AP 50.3 on val2017 (README of apps/detection, perception_models @
          3e352cc, mask_rcnn_PEspatial_G_coco36ep.pth).
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/vitdet.py",
    "../_base_/vitdet_training.py",
    "../_base_/datasets/coco.py",
]
protocol = dict(
    id="coco-detection-vitdet-g-36ep",
    version=1,
    task="detection",
    dataset="coco",
    split="val",
    metric="AP",
    higher_is_better=True,
)

encoder = "pe_spatial_g14_448"
weights = "released"
layer, frozen = -1, False
global_blocks = [12, 24, 36, 49]
drop_path_rate = 0.5
model = dict(
    backbone=dict(
        encoder_options=dict(
            patch_size=16,
            image_size=512,  # the 32x32 positions stay as they are
            cls_token=False,
            window_size=32,
            global_blocks="$global_blocks",
            pos_embed="tile",
            rope_grid=32,
            drop_path_rate="$drop_path_rate",
            drop_path_schedule="linear",
        ),
    ),
)
amp_dtype = None  # the whole model runs in float16
grad_checkpointing = True
canvas = 1024
score_thr, max_per_img = 0.05, 100
batch_size = 1
processes = 64
lr = 5e-5
layer_decay = 0.9
max_iters, lr_drops = 66375, [59000, 63916]
warmup_end = 91
val_interval = 5000
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=5000, by_epoch=False),
)
custom_hooks = [dict(type="ExactResumeHook"), dict(type="CompressGradients")]
log_processor = dict(window_size=50, by_epoch=False)
