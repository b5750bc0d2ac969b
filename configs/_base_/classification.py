"""Pictures in folders of classes, for probes of features of whole pictures: data and features.

The encoder sees each picture once, in one view; its features are kept in results_dir, for every
other run of the same pictures, weights and input.
"""

REQUIRED_classification = (
    "encoder", "weights", "data_root", "train_folder", "val_folder", "holdout_share",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.probing.classification", "pe_dense.zero_shot"],
    allow_failed_imports=False,
)
data_check = "pe_dense.probing.classification.data_check:check_config"
results_dir = "work_dirs/features"  # 4 bytes a number; may be deleted at any time
names, known_classes, folders_sha256, as_stored = "words", None, None, True
train_part, val_part, used_split, split_seed = "all", "all", None, 0
held_together = "(.+)"  # a pattern of paths; this one: every picture for itself
fit, side = "crop", None  # side None: the encoder's own
batch_size = 256
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers=0,  # an item is a path; the model decodes ahead
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="HoldoutSubset",
        part="train",
        share="$holdout_share",
        group="$held_together",
        dataset=dict(
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
    ),
)
test_dataloader = dict(
    batch_size=256,
    num_workers=0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(
                type="HoldoutSubset",
                part="holdout",
                share="$holdout_share",
                group="$held_together",
                dataset=dict(
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
            ),
            dict(
                type="ClassImages",
                images=dict(
                    type="ClassFolders",
                    data_root="$data_root",
                    folder="$val_folder",
                    names="$names",
                    num_classes="$known_classes",
                    folders_sha256="$folders_sha256",
                    templates=["{}"],
                    repeated_names="first",  # what tells classes apart are their folders
                    as_stored="$as_stored",
                ),
                part="$val_part",
                split="$used_split",
                split_seed="$split_seed",
            ),
        ],
    ),
)
