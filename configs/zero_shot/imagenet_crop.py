"""ImageNet by the names of its classes, pictures cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 80 sentences); PE (arXiv:2504.13181).
Data:     ImageNet ILSVRC 2012 val, a folder for each WordNet id: DIR/val/n01440764/*.JPEG
Command:  python tools/test.py configs/zero_shot/imagenet_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 50,000 pictures, one over 80,000 sentences.
Expected: top-1 of T16, S16, B16, L14, G14 in the README of perception_models @ 3e352cc, the
          better of squash and crop for each: 62.1, 72.7, 78.4, 83.5, 85.4.
Differs:  float32, not half precision; ties count against the right class.
"""

_base_ = "imagenet.py"
protocol = dict(id="imagenet-zero-shot-crop")
fit = "crop"
