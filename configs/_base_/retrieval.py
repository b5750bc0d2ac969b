"""Pictures or videos by their captions, and captions by them: what all these evaluations share."""

_base_ = "image_text.py"
REQUIRED_retrieval = (
    "encoder", "weights", "data_root", "captions", "style", "folder", "fit", "reweight",
)  # fmt: skip
num_items = None
model = dict(frame_mean="unit")
test_dataloader = dict(
    dataset=dict(
        type="CaptionedPictures",
        ann_file="$captions",
        style="$style",
        folder="$folder",
        num_items="$num_items",
    ),
)
test_evaluator = dict(type="CaptionRetrieval", reweight="$reweight")
