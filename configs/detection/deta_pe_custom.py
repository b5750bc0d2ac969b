"""deta_custom.py by its former name, with its former settings whatever the data: 512 px, two images
an iteration, 3,000 iterations.

Data:     as in deta_custom.py.
Command:  python tools/train.py configs/detection/deta_pe_custom.py --cfg-options data_root=DIR
"""

_base_ = ["./deta_custom.py"]
protocol = dict(id="custom-detection-deta", version=1)
