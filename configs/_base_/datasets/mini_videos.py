"""Clips of the mini world in the layout of DAVIS, reported on val."""

data_root = "data/mini/davis"
resolution, style = "480p", "davis"
split_file = "ImageSets/2017/val.txt"
