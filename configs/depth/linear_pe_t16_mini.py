"""Linear depth bins on a PE Spatial T/16 trained from random weights: depth of the mini world.

Paper:    linear head as DINOv2 (arXiv:2304.07193) on PE Spatial (arXiv:2504.13181); four encoder
          blocks, because deep ones with random weights need longer than this.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/depth/linear_pe_t16_mini.py
          python tools/test.py configs/depth/linear_pe_t16_mini.py \\
              work_dirs/depth_linear_pe_t16_mini
Cost:     about 3 min on 2 quiet CPU cores (0.22 s per iteration); 7 min in the recorded run.
Expected: RMSE 0.98 [0.91, 1.06] m; the best constant has 2.9.
"""

_base_ = ["../_base_/runtime.py", "../_base_/depth.py", "../_base_/depth_model.py"]
protocol = dict(
    id="mini-depth",
    version=1,
    task="depth",
    dataset="mini",
    split="val",
    metric="rmse",
    higher_is_better=False,
)

encoder = "pe_spatial_t16_512"
weights = "random"
layers = [3]
frozen = False
dataset_type = "DepthDataset"  # every picture is a world of its own, so its own sequence
data_root = "data/mini/nyu"
train_list, val_list = "nyu_train.txt", "nyu_test.txt"
image_folder, depth_folder = "", ""
train_cut, val_cut = [], []
crop_size = (224, 224)
brightness = (0.75, 1.25)
min_depth, max_depth = 1e-3, 10.0
score_crop = None
batch_size = 4
num_workers = 1
max_iters, val_interval = 800, 800
lr, weight_decay = 1e-3, 1e-2
backbone_lr_mult, layer_decay = 1.0, 1.0
warmup_iters = 50
num_bins = 64
model = dict(
    decode_head=dict(
        type="DepthBinsHead",
        in_channels="$encoder.embed_dim",
        num_bins="$num_bins",
        min_depth="$min_depth",
        max_depth="$max_depth",
        losses=[dict(type="ScaleInvariantLogLoss")],
    ),
)
param_scheduler = [  # unlike the published recipe, the cosine begins after the warm-up
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(
        type="CosineAnnealingLR",
        eta_min=0.0,
        by_epoch=False,
        begin="$warmup_iters",
        end="$max_iters",
    ),
]
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
