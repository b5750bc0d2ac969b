"""The mini world for segmentation: six shapes on four grounds, pictures of 256 x 256."""

data_root = "data/mini/ade"
classes = ["sky", "wall", "ground", "path", "disc", "box", "triangle", "star", "ring", "cross"]
num_classes = 10
train_images, train_maps = "images/training", "annotations/training"
val_images, val_maps = "images/validation", "annotations/validation"
reduce_zero_label = True
image_scale, ratio_range = (256, 256), (0.8, 1.5)
crop_size = (256, 256)
