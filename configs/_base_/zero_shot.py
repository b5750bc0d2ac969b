"""Pictures or videos by the names of their classes: what all these evaluations share."""

_base_ = "image_text.py"
REQUIRED_zero_shot = (
    "encoder", "weights", "data_root", "folder", "names", "templates", "fit", "num_classes",
)  # fmt: skip
templates_sha256 = None
folders_sha256 = None
repeated_names = "refuse"
lists = None
model = dict(frame_mean="raw")
test_dataloader = dict(
    dataset=dict(
        type="ClassFolders",
        folder="$folder",
        names="$names",
        templates="$templates",
        templates_sha256="$templates_sha256",
        num_classes="$num_classes",
        folders_sha256="$folders_sha256",
        repeated_names="$repeated_names",
        lists="$lists",
    ),
)
test_evaluator = dict(type="NameAccuracy")
