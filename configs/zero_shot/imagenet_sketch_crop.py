"""ImageNet-Sketch by the names of its classes, pictures cropped from the middle.

Paper:    CLIP (arXiv:2103.00020, section 3.1.4: 80 sentences); PE (arXiv:2504.13181).
Data:     ImageNet-Sketch.zip as it is unpacked: DIR/sketch/n01440764/*.JPEG
Command:  python tools/test.py configs/zero_shot/imagenet_sketch_crop.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 50,889 pictures, one over 80,000 sentences.
Expected: not known here.
Differs:  float32, not half precision; ties count against the right class.
"""

_base_ = "imagenet_sketch.py"
protocol = dict(id="imagenet-sketch-zero-shot-crop")
fit = "crop"
