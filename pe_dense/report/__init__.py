"""The page of one run: what a training and its evaluation left, in one file for people."""
