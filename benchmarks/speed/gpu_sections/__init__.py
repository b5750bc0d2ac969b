"""Sections of `gpu.py`, a module each; `gpu_bench.py` says how one is written."""
