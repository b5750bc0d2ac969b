"""Weighted nearest neighbours among features of whole pictures; beside classification.py.

Nothing is trained: layer and number of neighbours are chosen on held-out training pictures.
"""

REQUIRED_classification_neighbours = (
    "encoder", "weights", "sources", "ks", "readout", "norm", "fit", "side", "results_dir",
    "data_root", "train_folder", "names", "known_classes", "folders_sha256", "as_stored",
    "train_part", "used_split", "split_seed", "held_together",
)  # fmt: skip
training_free = True
select_on = "holdout"
holdout_share = 0.1
temperature = 0.07
allow_absent_classes = False
model = dict(
    type="GlobalNeighbours",
    backbone=dict(type="DenseBackbone", encoder="$encoder", weights="$weights"),
    encoder_depth="$encoder.depth",
    sources="$sources",
    readout="$readout",
    norm="$norm",
    fit="$fit",
    side="$side",
    results_dir="$results_dir",
    ks="$ks",
    temperature="$temperature",
    holdout_share="$holdout_share",
    held_together="$held_together",
    bank=dict(
        type="ClassImages",
        images=dict(
            type="ClassFolders",
            data_root="$data_root",
            folder="$train_folder",
            names="$names",
            num_classes="$known_classes",
            folders_sha256="$folders_sha256",
            templates=["{}"],
            repeated_names="first",  # what tells classes apart are their folders
            as_stored="$as_stored",
        ),
        part="$train_part",
        split="$used_split",
        split_seed="$split_seed",
    ),
)
test_evaluator = dict(
    type="NeighbourMetric",
    encoder_depth="$encoder.depth",
    sources="$sources",
    ks="$ks",
    temperature="$temperature",
    select_on="$select_on",
    allow_absent_classes="$allow_absent_classes",
)
test_cfg = dict(type="TestLoop")
