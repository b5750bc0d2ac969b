"""Nearest neighbours on ImageNet by the class token of the last block, as DINO; nothing is trained.

Paper:    DINO (arXiv:2104.14294, appendix F.1): votes of weight exp(cosine / 0.07), k = 20, all
          training pictures.
Data:     ImageNet ILSVRC 2012, a folder for each WordNet id: DIR/train, DIR/val
Command:  python tools/test.py configs/classification/imagenet_knn.py \\
              --encoder dinov2_b14 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 1,331,167 pictures, kept in results_dir.
Expected: DINO reports the best k of 10, 20, 100 and 200 on the scored pictures; here k is fixed.
Differs:  pictures are resampled bilinearly to the encoder's own side, as all encoders here; DINO
          takes bicubic to 256 and the middle 224. Encoders without a class token: readout=mean;
          without a final norm: norm=plain. Both make another protocol.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/classification.py",
    "../_base_/classification_neighbours.py",
]
protocol = dict(
    id="imagenet-knn",
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
names, known_classes = "imagenet", 1000
folders_sha256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
readout, norm = "class", "final"
sources, ks = [-1], [20]
select_on, holdout_share = "", None  # nothing is chosen
test_dataloader = dict(
    batch_size=2048,  # the training features are read once for each of these
    dataset=dict(
        _delete_=True,
        type="ClassImages",
        images=dict(
            type="ClassFolders",
            data_root="$data_root",
            folder="$val_folder",
            names="$names",
            num_classes="$known_classes",
            folders_sha256="$folders_sha256",
            templates=["{}"],
            repeated_names="first",
            as_stored="$as_stored",
        ),
    ),
)
train_dataloader = dict(  # for the lines without the picture
    dataset=dict(
        _delete_=True,
        type="ClassImages",
        images=dict(
            type="ClassFolders",
            data_root="$data_root",
            folder="$train_folder",
            names="$names",
            num_classes="$known_classes",
            folders_sha256="$folders_sha256",
            templates=["{}"],
            repeated_names="first",
            as_stored="$as_stored",
        ),
    )
)
