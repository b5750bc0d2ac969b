"""Nearest neighbours among whole pictures, for your own class folders; nothing is trained.

Paper:    weighted k-NN as DINO (arXiv:2104.14294): votes of weight exp(cosine / 0.07); layer and
          k chosen on held-out training pictures, which DINO does not do.
Data:     DIR/train/<class>/<picture> and DIR/val/<class>/<picture>; or DIR/<class>/<picture>, of
          which split=0.2 of each class is scored (split_seed=0 says which).
Command:  python tools/test.py configs/classification/knn_custom.py --encoder pe_core_b16_224 \\
              --cfg-options data_root=DIR
Cost:     one encoder pass over the pictures, kept in results_dir; then seconds.
Expected: depends on the data; above the lines without the picture, which are printed.

Pictures are turned as Exif says. readout=class+mean, pool (PE Core) or class, norm, fit=squash and
side=PIXELS are options; each makes another protocol.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/classification.py",
    "../_base_/classification_neighbours.py",
]
protocol = dict(
    id="custom-knn",
    version=1,
    task="classification",
    dataset="$data.name",
    split="val",
    metric="top1",
    higher_is_better=True,
    own_annotations=dict(val="$data.sha256"),  # of what neighbours are found in, too
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = None  # --cfg-options data_root=DIR
split, split_seed = None, 0  # split: 0.2 where the folder has no parts of its own
data_facts = "pe_dense.probing.classification.own_facts:facts"
train_folder, val_folder, as_stored = "$data.train_folder", "$data.val_folder", False
train_part, val_part = "$data.part_train", "$data.part_val"
used_split = "$data.split"
classes = "$data.classes"
readout, norm = "mean", "plain"
sources, ks = "all", [1, 5, 10, 20]
allow_absent_classes = True  # few held-out pictures show every class
