"""DINO on PE Spatial T/16 for your own images: any COCO-format folder, any classes.

Paper:    DINO (arXiv:2203.03605) on PE Spatial (arXiv:2504.13181).
Data:     DIR with annotations/{train,val}.json and images/, or as COCO or Roboflow lay it out; the
          classes are those of the JSON. Look through it, and divide it if it has one JSON:
              python tools/prepare_data.py coco-format DIR [--split 0.2 --seed 0]
Command:  python tools/train.py configs/detection/dino_custom.py --cfg-options data_root=DIR
          python tools/test.py configs/detection/dino_custom.py work_dirs/dino_custom \\
              --cfg-options data_root=DIR
Cost:     follows from the number of images and is printed at the start: half an hour on 2 CPU cores
          for 200 images, minutes on a GPU.
Expected: depends on the data. BCCD from random weights, image_scale=(320,320): AP 0.163 after the
          first 300 iterations; dino_pe_t16_bccd.py reaches 0.517 in about 3,300.

Weights are random unless --weights says otherwise, so that nothing has to be downloaded. Released
ones learn faster and from fewer images: --weights released, or a larger encoder as well:
--encoder pe_spatial_b16_512 --weights released --cfg-options layer_decay=0.8.

Image size, batch, steps and learning rate suit the number of images and the device
(pe_dense/data/own_schedule.py); what they are is printed, and each can be set, as in
image_scale=(640,640) for small objects, batch_size=4 max_iters=2000 lr=2e-4. tune=frozen, lora or
layers=4 train less of the encoder than all. flip_prob=0 where left and right differ in meaning.
Files in other places: train_json, val_json, train_images, val_images, all below data_root.

Records are filed under this protocol and the hash of the annotations, so that results on other
data, or on data that were changed, are never mixed up; the whole hashes are in their notes.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/own_data.py",
    "../_base_/own_training.py",
    "../_base_/dino_small.py",
]
protocol = dict(
    id="custom-detection",
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
# So that a very long image has rows for every level; the smallest batches are padded further.
model = dict(
    backbone=dict(tune="$tune"),
    data_preprocessor=dict(pad_size_divisor="$encoder.side_of_8_tokens"),
)
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
