"""Linear probes on ImageNet, every layer of a frozen encoder: the mean of its patches.

Paper:    many heads on one pass as DINOv2 (arXiv:2304.07193), but one view of each picture, and
          layer and rate chosen on held-out training pictures.
Data:     ImageNet ILSVRC 2012, a folder for each WordNet id: DIR/train, DIR/val
Command:  python tools/train.py configs/classification/imagenet_linear.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
          python tools/test.py configs/classification/imagenet_linear.py \\
              work_dirs/imagenet_linear --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 1,331,167 pictures, kept in results_dir: 47 GB
          for 12 layers of width 768.
Expected: no published number is made so; DINOv2's are with crops and flips, and with the layers
          and the rate that are best on the scored pictures.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/probing.py",
    "../_base_/classification.py",
    "../_base_/classification_linear.py",
]
protocol = dict(
    id="imagenet-linear",
    version=1,
    task="classification",
    dataset="imagenet",
    split="val",
    metric="top1",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = "data/imagenet"
train_folder, val_folder = "train", "val"
names, known_classes, num_classes = "imagenet", 1000, 1000
folders_sha256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
readout, norm = "mean", "none"
sources, seeds = "all", [0, 1, 2]
lrs, weight_decays = [1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4], [1e-2]
holdout_share = 0.02  # 25,623 pictures
batch_size, max_epochs, warmup_iters = 1024, 10, 500
test_evaluator = dict(type="ClassProbeMetric")
