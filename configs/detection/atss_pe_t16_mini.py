"""ATSS on PE Spatial T/16 for the mini world, from random weights: what `make demo` trains.

Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/detection/atss_pe_t16_mini.py
          python tools/test.py configs/detection/atss_pe_t16_mini.py work_dirs/atss_pe_t16_mini
Cost:     4 min on 2 CPU cores.

A dense detector, because a set-based one (dino_pe_t16_mini.py) has learnt nothing yet after the
few hundred steps that fit into a demo. Only the first four blocks are used: the deep ones of an
encoder with random weights need far longer to become useful.
"""

_base_ = ["../_base_/runtime.py", "../_base_/coco_small.py", "../_base_/atss_small.py"]
protocol = dict(
    id="mini-detection",
    version=1,
    task="detection",
    dataset="mini",
    split="val",
    metric="AP",
    higher_is_better=True,
)

encoder = "pe_spatial_t16_512"
weights = "random"
block = 3
data_root = "data/mini/coco"
classes = ["disc", "box", "triangle", "star", "ring", "cross"]
num_classes = 6
max_epochs = 8
batch_size = 4
lr = 1e-3
backbone_lr_mult, layer_decay = 1.0, 1.0
image_scale = (256, 256)
train_scales = [(256, 256)]
flip_prob, flip_direction = 0.5, "horizontal"
train_images, val_images = "images/train/", "images/val/"
val_interval = 8
optim_wrapper = dict(clip_grad=dict(max_norm=10.0))
