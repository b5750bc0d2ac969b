"""Training with parameters, gradients and optimiser state sharded over all GPUs (FSDP).

Command:  torchrun --nproc-per-node 8 tools/train.py CONFIG --launcher pytorch, where CONFIG lists
          "../_base_/sharded.py" in its _base_; --cfg-options sharding=None turns it off (DDP).

Memory of each of N GPUs, for float32 and AdamW: parameters, gradients and two moments are 16 bytes
per parameter, over N. For DETA on PE G (1.88 billion parameters: 50 blocks of 37 million and 30
million others):

    one GPU, or DDP   30.1 GB
    N = 8              3.8 GB
    N = 64             0.5 GB

and on top, whatever N is: two gathered blocks and a block's gradients (0.45 GB), the other parts
and their gradients (0.25 GB), activations, and 7.5 GB at the start only, while the model is
initialised as a whole. The first process needs 68 GB of host memory when a checkpoint is written
(22.6 GB of whole tensors, the same file as without sharding); when it is read, all processes of a
machine map the same file and copy their shares.
Sharding changes where numbers lie, not what they are: protocols and resuming do not depend on it.

blocks:       dotted name of the list whose members are gathered one by one; None: the encoder's
param_dtype:  'bfloat16' halves what is sent and gathered of the blocks; needs --amp
cpu_offload:  state and optimiser step in the memory of the host; slow, for few GPUs
"""

sharding = dict(blocks=None, param_dtype=None, cpu_offload=False)
