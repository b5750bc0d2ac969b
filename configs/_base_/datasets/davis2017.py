"""DAVIS 2017 at 480p as it is unpacked, reported on val."""

data_root = "data/davis2017"
resolution, style = "480p", "davis"
split_file = "ImageSets/2017/val.txt"
