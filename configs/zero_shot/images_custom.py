"""Your own pictures by the names of their classes: a folder with a folder for each class.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4), as PE (arXiv:2504.13181) scores it.
Data:     DIR/<class>/<picture>; '_' and '-' in the name of a folder are spaces. Other names:
          names=NAMES.json, {"folder": "name"}. Sentences of your own: templates=[FILE.txt], one
          a line with {} for the name, or templates=[clip_imagenet_templates].
Command:  python tools/test.py configs/zero_shot/images_custom.py --encoder pe_core_b16_224 \\
              --cfg-options data_root=DIR
Cost:     one encoder pass over the pictures.
Expected: depends on the data; above drawing by lot, which needs trained weights.

Pictures are turned as Exif says and squashed to the encoder's square; fit=crop takes the middle.
Records are filed under this protocol and the hash of the names of classes and files.
"""

_base_ = ["../_base_/runtime.py", "../_base_/zero_shot.py"]
protocol = dict(
    id="custom-zero-shot",
    version=1,
    task="zero_shot",
    dataset="$data.name",
    split="own",
    metric="top1",
    higher_is_better=True,
    own_annotations=dict(val="$data.sha256"),
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = None  # --cfg-options data_root=DIR
data_facts = "pe_dense.zero_shot.own_facts:class_facts"
folder, names, num_classes = "", "words", None
templates = ["a photo of a {}."]
fit = "squash"
as_stored = False
