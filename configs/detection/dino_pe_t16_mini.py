"""DINO on PE Spatial T/16 for the mini world, from random weights.

Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/detection/dino_pe_t16_mini.py
          python tools/test.py configs/detection/dino_pe_t16_mini.py work_dirs/dino_pe_t16_mini
Cost:     6 min on 2 CPU cores.
Expected: AP near 0: a set-based detector wants more steps than these 800 (max_epochs=60 or so);
          atss_pe_t16_mini.py learns in as many minutes.
"""

_base_ = ["./dino_pe_t16_bccd.py"]
protocol = dict(id="mini-detection-scratch", dataset="mini", annotations_sha256=None)

data_root = "data/mini/coco"
classes = ["disc", "box", "triangle", "star", "ring", "cross"]
num_classes = 6
max_epochs = 4
image_scale = (224, 224)
train_scales = [(192, 192), (224, 224)]
flip_prob, flip_direction = 0.5, "horizontal"
train_images, val_images = "images/train/", "images/val/"
val_interval = 4
