"""ADE20K (SceneParse150) for segmentation, as python tools/prepare_data.py ade20k DIR checks it."""

data_root = "data/ade/ADEChallengeData2016"
dataset_type = "ADE20KDataset"
img_suffix, seg_map_suffix, reduce_zero_label = ".jpg", ".png", True
train_images, train_maps, train_list = "images/training", "annotations/training", ""
val_images, val_maps, val_list = "images/validation", "annotations/validation", ""
