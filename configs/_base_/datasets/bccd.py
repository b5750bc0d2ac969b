"""BCCD, blood cells as COCO JSON: 205 training images of 640 x 480, halved."""

data_root = "data/bccd"
classes = ["RBC", "WBC", "Platelets"]
num_classes = 3
image_scale = (320, 240)
train_scales = [(256, 192), (288, 216), (320, 240)]
flip_prob, flip_direction = [0.4, 0.4], ["horizontal", "vertical"]
train_images, val_images = "images/", "images/"
