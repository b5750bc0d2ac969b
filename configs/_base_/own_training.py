"""How a training on a person's own data chooses its result; see pe_dense/run/training_options.py.

A part of the training images is held out, validations are on it, and the checkpoint of the best one
is the result: `tools/test.py WORK_DIR` takes it and says so. What is scored chooses nothing.
holdout_share=0 trains on all images, validates on the scored ones and takes the end of the
training; keep_best=False holds out, and takes the end.
"""

holdout_share, holdout_group = 0.1, "found"
keep_best = True
early_stop = None  # 5: end after five validations without gain
ema = None  # 0.999: averaged weights
