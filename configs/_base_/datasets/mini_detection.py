"""The mini world for detection: six shapes on pictures of 256 x 256."""

data_root = "data/mini/coco"
classes = ["disc", "box", "triangle", "star", "ring", "cross"]
num_classes = 6
image_scale = (256, 256)
train_scales = [(256, 256)]
flip_prob, flip_direction = 0.5, "horizontal"
train_images, val_images = "images/train/", "images/val/"
