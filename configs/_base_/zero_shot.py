"""Pictures or videos by the names of their classes: what all these evaluations share.

Nothing is trained.
"""

REQUIRED_zero_shot = (
    "encoder", "weights", "data_root", "folder", "names", "templates", "fit", "num_classes",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.zero_shot"], allow_failed_imports=False
)
data_check = "pe_dense.zero_shot.data_check:check_config"
training_free = True
journal_dir = "journal"  # in the work dir; a killed run goes on at the next batch
results_dir = None  # a folder keeps the vectors of pictures, for other protocols of them
templates_sha256 = None
folders_sha256 = None
repeated_names = "refuse"
media, num_frames, lists = "image", 8, None
left_out = ()
as_stored = True
side = None  # the encoder's own
model = dict(
    type="ImageTextScorer",
    backbone=dict(type="ImageTextBackbone", encoder="$encoder", weights="$weights"),
    fit="$fit",
    side="$side",
    frame_mean="raw",
)
test_dataloader = dict(
    batch_size=256,
    num_workers=0,  # an item is a path; the model decodes ahead
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="ClassFolders",
        data_root="$data_root",
        folder="$folder",
        names="$names",
        templates="$templates",
        templates_sha256="$templates_sha256",
        num_classes="$num_classes",
        folders_sha256="$folders_sha256",
        repeated_names="$repeated_names",
        media="$media",
        num_frames="$num_frames",
        lists="$lists",
        left_out="$left_out",
        as_stored="$as_stored",
    ),
)
test_evaluator = dict(type="NameAccuracy")
test_cfg = dict(type="TestLoop")
