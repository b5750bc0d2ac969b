"""Without triton, modules that import it (`*_kernel.py`) are not collected for doctests."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("triton") else ["pe_dense/*_kernel.py"]
