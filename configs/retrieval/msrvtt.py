"""MSR-VTT, the 1,000 test videos of the 1k-A split: captions to videos and back, plain.

Paper:    CLIP (arXiv:2103.00020); PE (arXiv:2504.13181).
Data:     MSRVTT_JSFUSION_test.csv, and videos/all/*.mp4 below DIR.
Command:  python tools/test.py configs/retrieval/msrvtt.py \\
              --encoder pe_core_b16_224 --cfg-options data_root=DIR
Cost:     not measured; one encoder pass over 8 frames of 1,000 videos.
Expected: not known here; published numbers are re-weighted.
Differs:  float32, not half precision; case and spaces make no other caption; ties count
          against the query; every frame is decoded; plain
          scores.

Scores are plain. The same captions share their videos.
"""

_base_ = ["../_base_/runtime.py", "../_base_/retrieval.py"]
protocol = dict(
    id="msrvtt-retrieval",
    version=1,
    task="retrieval",
    dataset="msrvtt",
    split="1k-A test",
    metric="text_to_video_R@1",
    higher_is_better=True,
)

encoder = "pe_core_b16_224"
weights = "released"
data_root = "data/msrvtt"
captions, style, folder, num_items = "MSRVTT_JSFUSION_test.csv", "msrvtt", "videos/all", 1000
media = "video"
fit, reweight = "squash", None
