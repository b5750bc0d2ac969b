"""What a run scores, as a hash of labels and pictures, and the refusal of anything else."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from pe_dense.data.checks.known_sets import known_content
from pe_dense.data.scored_files import hashes_of, scored_files
from pe_dense.openmmlab.read_once import of_first_process
from pe_dense.results.record import Record
from pe_dense.results.scored_content import OTHER_DATA, ScoredContent, item_digits
from pe_dense.results.store import record_path


def content_of(dataset: Any) -> ScoredContent | None:
    """Hashes of all that a built data set is scored on; None if it does not tell its files.

    Raises:
        ValueError: If a file cannot be read, or two items have one name.
    """
    files = scored_files(dataset)
    if files is None:
        return None
    hashes = hashes_of(files)
    items = {item.name: item_digits([hashes[file] for file in item.files]) for item in files.items}
    return ScoredContent(None if files.labels is None else hashes[files.labels], items)


def content_of_config(cfg: Config, split: str = "test") -> ScoredContent | None:
    """The same of the data that a resolved config tests on, or validates on with split 'val'.

    None also for a config that does not. All processes of a run must call it: they build the data
    set together, and the first one hashes for all.
    """
    loader = cfg.get(f"{split}_dataloader")
    if not loader:
        return None
    init_default_scope(cfg.get("default_scope", "mmengine"))
    dataset = DATASETS.build(copy.deepcopy(loader["dataset"]))

    def labels_and_items() -> tuple[str | None, dict[str, str]] | None:
        content = content_of(dataset)
        return None if content is None else (content.labels, dict(content.items))

    found = of_first_process(labels_and_items)
    return None if found is None else ScoredContent(*found)


def note_on_published(
    task: str, dataset: str, split: str, content: ScoredContent | None
) -> str | None:
    """What a record says where its files are not those of a known split; None where they are.

    Nothing is said of splits whose hash is not known here.
    """
    known = known_content(task, dataset, split)
    if content is None or known is None or content.sha256 == known:
        return None
    return f"{OTHER_DATA} {dataset} {split} as published ({known[:12]}...)"


def require_same_data(record: Record, content: ScoredContent | None) -> None:
    """Refuse to take a record for the result of a run whose data have changed since.

    Raises:
        ValueError: If both hashes are known and differ; it names the record.
    """
    recorded = record.dataset.sha256
    if content is None or recorded is None or recorded == content.sha256:
        return
    raise ValueError(
        f"{record_path(record)} was scored on other files of {record.dataset.name} "
        f"{record.dataset.split} ({recorded[:12]}...) than are there now "
        f"({content.sha256[:12]}...); restore the data, or score again with --supersede"
    )
