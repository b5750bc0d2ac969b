"""Linear probes on whole pictures, for your own class folders: every layer of a frozen encoder.

Paper:    many heads on one pass as DINOv2 (arXiv:2304.07193), but chosen on held-out training
          pictures; one view of each picture and no augmentation.
Data:     DIR/train/<class>/<picture> and DIR/val/<class>/<picture>; or DIR/<class>/<picture>, of
          which split=0.2 of each class is scored (split_seed=0 says which).
Command:  python tools/train.py configs/classification/linear_custom.py --cfg-options data_root=DIR
          python tools/test.py configs/classification/linear_custom.py \\
              work_dirs/classification_linear_custom --cfg-options data_root=DIR
Cost:     one encoder pass over the pictures, kept in results_dir; then heads alone.
Expected: depends on the data; the record and the page of the run have every layer.

Pictures are turned as Exif says. readout=class+mean, pool (PE Core) or class, norm, fit=squash and
side=PIXELS are options; each makes another protocol.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/probing.py",
    "../_base_/classification.py",
    "../_base_/classification_linear.py",
]
protocol = dict(
    id="custom-linear",
    version=1,
    task="classification",
    dataset="$data.name",
    split="val",
    metric="top1",
    higher_is_better=True,
    own_annotations=dict(train="$data.train_sha256", val="$data.val_sha256"),
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = None  # --cfg-options data_root=DIR
split, split_seed = None, 0  # split: 0.2 where the folder has no parts of its own
data_facts = "pe_dense.probing.classification.own_facts:facts"
train_folder, val_folder, as_stored = "$data.train_folder", "$data.val_folder", False
train_part, val_part = "$data.part_train", "$data.part_val"
used_split = "$data.split"
classes, num_classes = "$data.classes", "$data.num_classes"
readout, norm = "mean", "none"
sources, seeds = "all", [0, 1, 2]
lrs, weight_decays = [1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4], [1e-2]
allow_absent_classes = True  # few held-out pictures show every class
batch_size, max_epochs, warmup_iters = "$data.batch_size", "$data.max_epochs", 20
test_evaluator = dict(type="ClassProbeMetric")
default_hooks = dict(checkpoint=dict(interval="$checkpoint_interval"))  # and the last
checkpoint_interval = 10
