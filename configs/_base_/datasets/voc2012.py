"""PASCAL VOC 2012 for segmentation, trained on the 10,582 images of the augmented set (SBD)."""

data_root = "data/voc/VOC2012"
dataset_type = "PascalVOCDataset"
img_suffix, seg_map_suffix, reduce_zero_label = ".jpg", ".png", False
train_images, train_maps = "JPEGImages", "SegmentationClassAug"
train_list = "ImageSets/Segmentation/trainaug.txt"
val_images, val_maps = "JPEGImages", "SegmentationClass"
val_list = "ImageSets/Segmentation/val.txt"
