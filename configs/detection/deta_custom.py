"""DETA on PE Spatial T/16 for your own images: any COCO-format folder, any classes.

Paper:    DETA (arXiv:2212.06137) on PE Spatial (arXiv:2504.13181).
Data:     as in dino_custom.py: DIR with annotations/{train,val}.json and images/, or as COCO or
          Roboflow lay it out; the classes are those of the JSON.
Command:  python tools/train.py configs/detection/deta_custom.py --cfg-options data_root=DIR
          python tools/test.py configs/detection/deta_custom.py work_dirs/deta_custom \\
              --cfg-options data_root=DIR
Cost:     as dino_custom.py.
Expected: depends on the data; from random weights BCCD reaches AP 0.567 in about as many
          iterations (deta_pe_t16_bccd.py), DINO 0.517.

Options and advice as in dino_custom.py. One-to-many assignment learns faster from few images
than DINO's one-to-one matching; more than 100 objects per image want a larger num_queries.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/own_data.py",
    "../_base_/own_training.py",
    "../_base_/deta_small.py",
]
protocol = dict(
    id="custom-detection-deta",
    version=2,
    task="detection",
    dataset="$data.name",
    split="val",
    metric="AP",
    higher_is_better=True,
    own_annotations=dict(train="$data.train_sha256", val="$data.val_sha256", plan="$data.plan"),
)

encoder = "pe_spatial_t16_512"
weights = "random"
model = dict(backbone=dict(tune="$tune"))
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
