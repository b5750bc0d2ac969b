"""Linear head on a PE Spatial T/16 trained from random weights: segmentation of the mini world.

Paper:    linear head as DINOv2 (arXiv:2304.07193) on PE Spatial (arXiv:2504.13181); four encoder
          blocks, because deep ones with random weights need longer than this.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/segmentation/linear_pe_t16_mini.py
          python tools/test.py configs/segmentation/linear_pe_t16_mini.py \\
              work_dirs/linear_pe_t16_mini
Cost:     about 3 min on 2 quiet CPU cores; 8 min in the recorded run.
Expected: mIoU 0.188 [0.181, 0.194]; the best constant has 0.034. Small shapes are not found.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/segmentation.py",
    "../_base_/segmentation_model.py",
    "../_base_/datasets/mini_segmentation.py",
]
protocol = dict(
    id="mini-segmentation",
    version=1,
    task="segmentation",
    dataset="mini",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_t16_512"
weights = "random"
layers, num_layers = [3], 1
frozen = False
batch_size = 4
max_epochs, val_interval = 8, 8
lr, weight_decay = 1e-3, 1e-2
backbone_lr_mult, layer_decay = 1.0, 1.0
warmup_iters = 50
model = dict(
    decode_head=dict(
        type="LinearSegHead",
        in_channels="$encoder.embed_dim",
        num_layers="$num_layers",
        num_classes="$num_classes",
    ),
)
