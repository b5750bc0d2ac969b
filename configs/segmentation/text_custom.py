"""Your own images by the names of their classes, without training: which layer and read-out work.

Paper:    none; the protocol of this project. Read-outs of MaskCLIP (arXiv:2112.01071), SCLIP
          (arXiv:2312.01597) and ClearCLIP (arXiv:2407.12442), and any layer through the pool;
          chosen on held-out training images.
Data:     as linear_custom.py; layouts and options: docs/own_data.md
Command:  python tools/test.py configs/segmentation/text_custom.py --encoder pe_core_b16_224 \\
              --cfg-options data_root=DIR
Cost:     one encoder pass over the scored and the held-out images, in windows.
Expected: depends on the data. out_dir=DIR writes a table and a picture of all read-outs and layers.

What to change first: model.names.tv=[television,screen] says what the class tv is called in
prompts; background=NAME thresholds=[0.3,0.5,0.7] with model.names.NAME=[] gives a class to pixels
that no name fits; readouts=[maskclip] layers=[-1] scores one read-out without a choice.
"""

_base_ = ["../_base_/runtime.py", "../_base_/segmentation_text.py"]
protocol = dict(
    id="custom-segmentation-text",
    version=1,
    task="segmentation",
    dataset="$data.name",
    split="val",
    metric="mIoU",
    higher_is_better=True,
    own_annotations=dict(train="$data.train_sha256", val="$data.val_sha256"),
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = None  # --cfg-options data_root=DIR
# Folders and files below data_root; None is found by looking.
images, masks, names_file = None, None, None
unlabelled = None  # labels or names that are no class
split, split_seed, split_group = None, 0, None  # 0.2 where the folder has no parts of its own
data_facts = "pe_dense.data.checks.own_maps:facts"
data_check = "pe_dense.segmentation.own_data:check_config"
classes, num_classes = "$data.classes", "$data.num_classes"
found = "$data.found"
holdout_share = "$data.holdout_share"  # 0.1, as whole clips can meet it

templates = ["a photo of a {}."]
readouts, layers = "all", "all"
background, thresholds = None, []
own_set = dict(
    type="OwnLabelMaps",
    data_root="$data_root",
    ann_file="$data.list",
    metainfo=dict(classes="$classes", numbers="$data.label_numbers"),  # in the masks as they are
)
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(99_999_999, "$short_side"), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=1,
    num_workers="$num_workers",
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="HoldoutSubset",
        part="train",
        share="$holdout_share",
        group="sequence",
        dataset=dict(**own_set, part="train", pipeline=test_pipeline),
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers="$num_workers",
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(
                type="HoldoutSubset",
                part="holdout",
                share="$holdout_share",
                group="sequence",
                dataset=dict(**own_set, part="train", test_mode=True, pipeline=test_pipeline),
            ),
            dict(**own_set, part="val", test_mode=True, pipeline=test_pipeline),
        ],
    ),
)
