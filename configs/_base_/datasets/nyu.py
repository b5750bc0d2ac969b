"""NYUv2 for depth: lists, crops and range, in the layout of BTS.

Source: BTS (arXiv:1907.10326) and zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50, which
DINOv2 and DINOv3 follow: borders cut (rows 45 to 471, columns 43 to 607), crops of 416 x 544,
brightness 0.75 to 1.25; whole images of 480 x 640 are tested, and scored within the box of Eigen
et al. (rows 45 to 470, columns 41 to 600), 1 mm to 10 m, mean over images.
"""

dataset_type = "NYUDepthDataset"
data_root = "data/nyu"
train_list, val_list = "nyu_train.txt", "nyu_test.txt"
image_folder, depth_folder = "", ""
train_cut, val_cut = [dict(type="NYUTrainCrop")], []
crop_size = (416, 544)
brightness = (0.75, 1.25)
min_depth, max_depth = 1e-3, 10.0
score_crop = "nyu_eigen"
