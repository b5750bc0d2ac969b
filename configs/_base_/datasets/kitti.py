"""KITTI for depth: Eigen split, KITTI's benchmark crop, Garg's box, 1 mm to 80 m.

Source: BTS (arXiv:1907.10326) and zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50, which
DINOv2 follows: the lowest 352 x 1216 pixels of every frame in training and test, crops of
352 x 704, brightness 0.9 to 1.1, annotated depth of KITTI's depth benchmark, mean over images.
"""

dataset_type = "KITTIEigenDataset"
data_root = "data/kitti"
train_list, val_list = "kitti_eigen_train.txt", "kitti_eigen_test.txt"
image_folder, depth_folder = "", ""  # the data set knows where KITTI unpacks them
train_cut, val_cut = [dict(type="KBCrop")], [dict(type="KBCrop")]
crop_size = (352, 704)
brightness = (0.9, 1.1)
min_depth, max_depth = 1e-3, 80.0
score_crop = "garg"
