"""The model of linear probes on features of whole pictures; beside classification.py, probing.py.

Heads are those of the dense probes: batch norm and one linear layer, by AdamW.
"""

REQUIRED_classification_linear = (
    "encoder", "weights", "sources", "readout", "norm", "fit", "side", "results_dir", "num_classes",
    "lrs", "weight_decays", "seeds", "half_length",
)  # fmt: skip
task = "classification"
label_smoothing = 0.0
model = dict(
    type="GlobalProbe",
    backbone=dict(type="DenseBackbone", encoder="$encoder", weights="$weights"),
    encoder_depth="$encoder.depth",
    sources="$sources",
    readout="$readout",
    norm="$norm",
    fit="$fit",
    side="$side",
    results_dir="$results_dir",
    num_classes="$num_classes",
    lrs="$lrs",
    weight_decays="$weight_decays",
    seeds="$seeds",
    half_length="$half_length",
    label_smoothing="$label_smoothing",
)
