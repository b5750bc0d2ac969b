"""MSR-VTT, the 1,000 test videos of the 1k-A split: captions to videos and back, re-weighted.

Paper:    CLIP (arXiv:2103.00020); PE (arXiv:2504.13181).
Data:     MSRVTT_JSFUSION_test.csv, and videos/all/*.mp4 below DIR.
Command:  python tools/test.py configs/retrieval/msrvtt_reweighted.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 8 frames of 1,000 videos.
Expected: text to video R@1 28.8, 39.3, 47.6, 50.3, 51.2 of T16, S16, B16, L14, G14, re-weighted
          (README of perception_models @ 3e352cc).
Differs:  float32, not half precision; case and spaces make no other caption; ties count
          against the query; every frame is decoded.

Scores are re-weighted by a softmax over all queries of the test set, as PE's published ones: they
see all queries at once, as no search does. The same captions share their videos.
"""

_base_ = "msrvtt.py"
protocol = dict(id="msrvtt-retrieval-reweighted")
reweight = 1.0
