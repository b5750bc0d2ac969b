"""COCO 2017 for detection, as it is unpacked."""

data_root = "data/coco"
dataset_type = "CocoDataset"
train_json, train_images = "annotations/instances_train2017.json", "train2017/"
val_json, val_images = "annotations/instances_val2017.json", "val2017/"
