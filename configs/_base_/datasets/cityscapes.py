"""Cityscapes for segmentation, fine annotations as labelTrainIds."""

data_root = "data/cityscapes"
dataset_type = "CityscapesDataset"
img_suffix, seg_map_suffix = "_leftImg8bit.png", "_gtFine_labelTrainIds.png"
reduce_zero_label = False
train_images, train_maps, train_list = "leftImg8bit/train", "gtFine/train", ""
val_images, val_maps, val_list = "leftImg8bit/val", "gtFine/val", ""
