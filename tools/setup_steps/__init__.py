"""Parts of `tools/setup_environment.py`; standard library only."""
