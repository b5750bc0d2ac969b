"""Where the configs are: in the folder that one works in, else those that came with the package.

`configs/detection/atss_pe_t16_mini.py` means the same in a checkout and beside an installed wheel,
which holds the repository's configs. A file of that name in the current folder goes first, so that
own configs stand beside them. Nothing here imports OpenMMLab.
"""

from __future__ import annotations

from pathlib import Path

from pe_dense.results.provenance import repository_root
from pe_dense.run.near_names import near_names

CONFIGS = Path("configs")


def find_config(path: str | Path) -> Path:
    """The file that a config's path names; the path itself where there is none.

    Example:
        >>> find_config("configs/suites/mini.py").is_file(), find_config("own.py").as_posix()
        (True, 'own.py')
    """
    here = Path(path).expanduser()
    if not here.is_file() and not here.is_absolute() and here.parts[:1] == CONFIGS.parts:
        shipped = repository_root() / here
        if shipped.is_file():
            return shipped
    return here


def config_files(folder: str | Path = CONFIGS) -> dict[Path, Path]:
    """Path as it is typed -> file, of all Python files of a folder of configs, sorted.

    Args:
        folder: `configs` or a folder in it, with those of the package; or any other folder.
    """
    folder = Path(folder)
    found = {file: file for file in folder.rglob("*.py")}
    if not folder.is_absolute() and folder.parts[:1] == CONFIGS.parts:
        root = repository_root()
        shipped = {file.relative_to(root): file for file in (root / folder).rglob("*.py")}
        found = {**shipped, **found}
    return dict(sorted(found.items()))


def near_configs(path: str | Path, limit: int = 3) -> list[str]:
    """Configs whose name resembles that of a path, whatever folder it says.

    Example:
        >>> near_configs("configs/detecton/deta_pe_t16_bcd.py", 1)
        ['configs/detection/deta_pe_t16_bccd.py']
    """
    known = {
        file.stem: file.as_posix() for file in config_files() if not file.parts[1].startswith("_")
    }
    return [known[name] for name in near_names(Path(path).stem, known, limit)]
