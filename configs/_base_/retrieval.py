"""Pictures or videos by their captions, and captions by them: what all these evaluations share.

Nothing is trained.
"""

REQUIRED_retrieval = (
    "encoder", "weights", "data_root", "captions", "style", "folder", "fit", "reweight",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.zero_shot"], allow_failed_imports=False
)
data_check = "pe_dense.zero_shot.data_check:check_config"
training_free = True
journal_dir = "journal"  # in the work dir; a killed run goes on at the next batch
results_dir = None  # a folder keeps the vectors of pictures, for other protocols of them
num_items = None
media, num_frames = "image", 8
left_out = ()
as_stored = True
side = None  # the encoder's own
model = dict(
    type="ImageTextScorer",
    backbone=dict(type="ImageTextBackbone", encoder="$encoder", weights="$weights"),
    fit="$fit",
    side="$side",
    frame_mean="unit",
)
test_dataloader = dict(
    batch_size=256,
    num_workers=0,  # an item is a path; the model decodes ahead
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="CaptionedPictures",
        data_root="$data_root",
        ann_file="$captions",
        style="$style",
        folder="$folder",
        num_items="$num_items",
        media="$media",
        num_frames="$num_frames",
        left_out="$left_out",
        as_stored="$as_stored",
    ),
)
test_evaluator = dict(type="CaptionRetrieval", reweight="$reweight")
test_cfg = dict(type="TestLoop")
