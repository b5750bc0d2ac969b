"""dino_custom.py by its former name, with its former settings whatever the data: 512 px, two images
an iteration, 3,000 iterations.

Data:     as in dino_custom.py.
Command:  python tools/train.py configs/detection/dino_pe_custom.py --cfg-options data_root=DIR
"""

_base_ = ["./dino_custom.py"]
protocol = dict(id="custom-detection", version=1)
