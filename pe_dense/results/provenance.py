"""Where a number came from: hashes, commit, versions, machine, command; and files written whole.

Nothing here imports torch or OpenMMLab: versions are read from package metadata, and what only
torch knows (the GPU's name) is an argument.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from pe_dense.files import file_sha256
from pe_dense.results.record import Hardware

COMMAND = "pe-dense"  # what an installed wheel is called by
# Where a wheel holds what the repository holds beside the package; see setup.py.
SHIPPED = Path(__file__).resolve().parents[1] / "repository"
# Tools that set up a checkout, which a wheel has no use for; setup.py leaves them out by this line.
REPOSITORY_TOOLS = ("setup_environment", "compile_operators", "docs_site")
# Import name -> distributions that provide it, first found wins.
DISTRIBUTIONS = {
    "mmengine": ("onedl-mmengine", "mmengine"),
    "mmcv": ("onedl-mmcv", "mmcv"),
    "mmdet": ("onedl-mmdetection", "mmdet"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation"),
    "pe_dense": ("pe_dense", "pe-dense"),
    "faster_coco_eval": ("faster-coco-eval",),
}
DEFAULT_LIBRARIES = (
    "python", "pe_dense", "torch", "numpy", "mmengine", "mmcv", "mmdet", "mmseg", "pycocotools",
)  # fmt: skip
# What evaluations, the builder of pages, and scripts that measure write: results are not code, and
# must not make the next record's commit dirty. '*' also stands for folders.
RESULT_PATHS = (
    "README.md",
    "benchmarks/LEADERBOARD.md",
    "benchmarks/leaderboard.html",
    "benchmarks/blind.json",
    "benchmarks/records",
    "benchmarks/reported/*.json",
    *(f"benchmarks/{folder}/*.{end}" for folder in ("speed", "experiments") for end in (
        "csv", "md", "png", "svg",
    )),
    *(f"docs/*.{end}" for end in ("gif", "html", "jpg", "md", "png", "svg")),
)  # fmt: skip

# An absolute path at the start of an argument, or after '=', ',', a bracket, a quote or a space.
_INNER_PATH = re.compile(r"""(?:^|(?<=[=,\[('"\s]))(?:~?/|[A-Za-z]:[\\/])[^,\])'"]+""")


# ---- code, libraries, machine --------------------------------------------------------------


def git_state(
    root: str | os.PathLike[str], ignore: Sequence[str] = RESULT_PATHS
) -> tuple[str, bool]:
    """Commit of the checkout at `root`, and whether its working tree differs from it.

    Args:
        root: Top folder of the checkout. A folder inside another project's checkout (an
            installed package in a virtual environment) is not a checkout of this code.
        ignore: Paths below root whose changes do not count, by default the results.

    Returns:
        (40 hex digits, dirty); untracked files make it dirty, ignored ones do not.
        ('unknown', True) without git, outside a checkout, or before the first commit.
    """
    try:
        top = _git(root, "rev-parse", "--show-toplevel").rstrip("\n")
        if Path(top).resolve() != Path(root).resolve():
            return "unknown", True
        commit = _git(root, "rev-parse", "HEAD").strip()
        excluded = [f":(top,exclude){path}" for path in ignore]
        status = _git(root, "status", "--porcelain", "--", ":(top)", *excluded)
    except (OSError, subprocess.SubprocessError):
        return "unknown", True
    if not re.fullmatch("[0-9a-f]{40}", commit):  # a SHA-256 repository
        return "unknown", True
    return commit, status.strip() != ""


def code_state(root: str | os.PathLike[str] | None = None) -> tuple[str, bool]:
    """What the code is that runs: of a checkout its commit, else a hash of its files.

    Args:
        root: As `repository_root` gives it, which is the default.

    Returns:
        `git_state`; ('files-' and 40 hex digits, False) without a commit, as of an installed
        wheel. Equal code gives equal digits, wherever it lies.
    """
    root = Path(root or repository_root())
    commit, dirty = git_state(root)
    return (files_of_code(root), False) if commit == "unknown" else (commit, dirty)


@functools.cache
def files_of_code(root: Path) -> str:
    """'files-' and the first 40 digits of a SHA-256 over package, configs and tools."""
    package = root.parent if root.name == SHIPPED.name else root / "pe_dense"
    digest = hashlib.sha256()
    for folder, pattern in ((package, "**/*"), (root / "configs", "**/*"), (root / "tools", "*")):
        for file in sorted(folder.glob(f"{pattern}.py")):
            inner = file.relative_to(folder)
            beside = folder == package and inner.parts[0] == SHIPPED.name
            if beside or (folder.name == "tools" and inner.stem in REPOSITORY_TOOLS):
                continue
            digest.update(f"{pattern} {inner.as_posix()} {file_sha256(file)}\n".encode())
    return f"files-{digest.hexdigest()[:40]}"


def _git(root: str | os.PathLike[str], *args: str) -> str:
    # A git hook exports GIT_DIR and friends, which would win over -C.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env["GIT_OPTIONAL_LOCKS"] = "0"
    command = ["git", "-C", os.fspath(root), *args]
    done = subprocess.run(
        command, capture_output=True, check=True, timeout=30, env=env, stdin=subprocess.DEVNULL
    )
    return os.fsdecode(done.stdout)


def library_versions(names: Iterable[str] = DEFAULT_LIBRARIES) -> dict[str, str]:
    """Versions by import name, from package metadata; nothing is imported.

    Args:
        names: Import names such as 'mmdet', or 'python'.

    Returns:
        Name -> version, in the order given; what is not installed is left out.
    """
    versions = {}
    for name in names:
        version = platform.python_version() if name == "python" else _installed_version(name)
        if version:
            versions[name] = version
    return versions


def _installed_version(name: str) -> str | None:
    for distribution in DISTRIBUTIONS.get(name, (name,)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    if name == "pe_dense":  # run from a checkout that is not installed
        import pe_dense

        return pe_dense.__version__
    return None


def hardware(gpu: str | None = None) -> Hardware:
    """This machine. `gpu` is the GPU's name as torch reports it, None for a run on CPU."""
    return Hardware(cpu=_cpu_model(), cores=os.cpu_count() or 1, gpu=gpu)


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        match = re.search(r"^(?:model name|Model)\s*:\s*(\S.*)$", text, re.MULTILINE)
        if match:
            return " ".join(match[1].split())
    return platform.processor() or platform.machine() or "unknown"


def peak_memory_gib() -> float | None:
    """Largest resident memory of this process so far in GiB (CPU); None where unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return round(peak * bytes_per_unit / 2**30, 3)


def utc_now() -> str:
    """The current UTC time as records write it, '2026-01-31T12:00:00Z'."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- command -------------------------------------------------------------------------------


def command_line(argv: Sequence[str], root: str | os.PathLike[str] | None = None) -> str:
    """The command of a run, quoted for a shell and free of this machine's paths.

    Absolute paths, also those after '=' or inside lists, become relative to `root` or to the
    working folder; one outside both keeps its last name only: '/path/to/best.pth'.

    Args:
        argv: As `sys.argv`: the script first, or 'pe-dense test'.
        root: Repository root; default: the working folder.

    Example:
        >>> command_line(["/repo/tools/test.py", "/data/x y.pth", "a=1"], root="/repo")
        "python tools/test.py '/path/to/x y.pth' a=1"
        >>> command_line(["pe-dense test", "configs/a.py"])
        'pe-dense test configs/a.py'
    """
    bases = [Path(root or ".").absolute(), Path.cwd()]

    def portable(text: str) -> str:
        path = Path(os.path.normpath(Path(text).expanduser()))
        for base in bases:
            for folder in (base, base.resolve()):
                if path.is_relative_to(folder):
                    return path.relative_to(folder).as_posix()
        return "/path/to/" + re.split(r"[\\/]", str(path))[-1]

    def portable_argument(arg: str) -> str:
        if arg.startswith(("/", "~/")):
            return portable(arg)
        return _INNER_PATH.sub(lambda match: portable(match[0]), arg)

    script, *rest = [arg.encode("utf-8", "backslashreplace").decode() for arg in argv]
    if not by_command([script]):
        script = portable(str(Path(script).absolute()))
    return shlex.join([*typed([script]), *map(portable_argument, rest)])


def by_command(argv: Sequence[str]) -> bool:
    """Whether a tool was called as `pe-dense NAME`, which makes that its `sys.argv[0]`."""
    return argv[0].startswith(f"{COMMAND} ")


def typed(argv: Sequence[str]) -> list[str]:
    """The words that a person types for `sys.argv`.

    Example:
        >>> typed(["tools/test.py", "a.py"]), typed(["pe-dense test", "a.py"])
        (['python', 'tools/test.py', 'a.py'], ['pe-dense', 'test', 'a.py'])
    """
    script, *rest = argv
    return [*(script.split() if by_command(argv) else ("python", script)), *rest]


# ---- files written whole -------------------------------------------------------------------


def repository_root() -> Path:
    """Folder of the checkout that this package runs from, or that stands for it in a wheel.

    It has `configs/`, `tools/` and `benchmarks/protocols.json`.
    """
    return SHIPPED if SHIPPED.is_dir() else SHIPPED.parents[1]
