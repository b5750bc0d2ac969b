"""The run matrix of tools/benchmark.py: which runs a suite asks for, and how they are run."""
