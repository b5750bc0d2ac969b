"""DINO on PE Spatial B/16 for COCO, 12 epochs: the reference row beside deta_pe_b16_coco_12ep.py.

Paper:    DINO (arXiv:2203.03605), mmdet's own detector with its published settings (configs/dino,
          4 scales, 900 queries); encoder, canvas, augmentation, optimiser (layer-wise decay, a
          tenth of the rate for sampling offsets) and schedule are those of
          deta_pe_b16_coco_12ep.py, so that only the detector differs.
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nproc-per-node 8 tools/train.py configs/detection/dino_pe_b16_coco_12ep.py \\
              --launcher pytorch
Cost:     8 GPUs x 2 images.
Expected: not measured yet.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/dino_small.py",
    "../_base_/deta_training.py",
    "../_base_/datasets/coco.py",
]
protocol = dict(
    id="coco-detection-dino-b16-12ep",
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
amp_dtype = None  # --amp sets it to bfloat16
canvas = 1024
num_queries, num_dn_queries = 900, 100
width = 256
pyramid_scales, num_extra_levels, num_levels = (2, 1, 0.5), 1, 4
pixel_mean, pixel_std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
max_detections = 300
model = dict(
    data_preprocessor=dict(mean="$pixel_mean", std="$pixel_std", pad_size_divisor="$canvas"),
    backbone=dict(
        amp_dtype="$amp_dtype",
        encoder_options=dict(
            patch_size=16,
            image_size=512,
            cls_token=False,
            window_size=32,
            global_blocks="$global_blocks",
            pos_embed="tile",
            rope_grid=32,
            drop_path_rate="$drop_path_rate",
            drop_path_schedule="linear",
        ),
    ),
    encoder=dict(
        num_layers=6,
        layer_cfg=dict(ffn_cfg=dict(feedforward_channels=2048)),
    ),
    decoder=dict(
        num_layers=6,
        layer_cfg=dict(ffn_cfg=dict(feedforward_channels=2048)),
    ),
    positional_encoding=dict(num_feats=128),
    dn_cfg=dict(label_noise_scale=0.5, box_noise_scale=1.0),
    test_cfg=dict(max_per_img="$max_detections"),
)
batch_size = 2
processes = 8
lr = 1e-4
backbone_lr_mult, layer_decay = 1.0, 0.8
max_epochs, lr_drop = 12, 11
val_interval = 1
