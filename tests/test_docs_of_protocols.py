"""docs/protocols/: every protocol with a paper's name has one page, in one form, and an index.

The form is described in docs/protocols/README.md. `python tests/test_docs_of_protocols.py` writes
the index there anew; the test says when that is due.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs/protocols"
INDEX = PAGES / "README.md"
BEGIN, END = "<!-- index: begin -->", "<!-- index: end -->"

STEPS = (
    "read", "resize", "crop", "pad", "flip", "colour", "normalise", "features", "head", "loss",
    "optimiser", "schedule", "batch", "precision", "test size", "window", "output", "metric",
    "selection",
)  # fmt: skip
COLUMNS = ["step", "reference", "there", "here", "same"]

# Configs of this project alone: generated data, a user's data, and protocols named by a version.
OWN_BY_NAME = re.compile(r"_v\d+$|_mini2?$|^mini2?_|_bccd$|_custom$")

# Recipes of this project although they use a published method: no paper says these settings.
OWN = {
    "ade20k-upernet-b-160k": "PE published no such model; settings of MAE's and BEiT's ViT-B",
    "ade20k-mask2former-b-160k": "PE published no such model; settings of mmseg's Swin-T",
    "coco-detection-deta-b16-12ep": "PE published detectors on G alone",
    "coco-detection-deta-l14-12ep": "PE published detectors on G alone",
    "coco-detection-deta-s16-12ep": "PE published detectors on G alone",
    "coco-detection-dino-b16-12ep": "mmdet's detector in our recipe, a row for comparison",
    "coco-detection-deformable-detr-b16-50ep": "mmdet's detector in our recipe, for comparison",
    "coco-detection-vitdet-s-36ep": "PE published no detector of this size",
    "coco-detection-vitdet-b-36ep": "PE published no detector of this size",
    "coco-detection-vitdet-l-36ep": "PE published no detector of this size",
    "coco-detection-frozen-vitdet-global-15ep": "timm's towers attend globally; PE's have windows",
    "imagenet-linear": "one view of each picture, chosen on held-out training pictures",
    "imagenet-knn": "DINO's votes with one k for all, pictures fitted as for all encoders here",
    "mot17-half-bytetrack-coco-detector": "the detector has not seen what ByteTrack's has",
    "spatial-align-b16-one-gpu": "PE's alignment scaled down to one GPU",
    "spatial-align-b16-one-gpu-cached": "PE's alignment scaled down to one GPU",
}

# Not compared yet: remove an id with the page that covers it. Nothing may be added but with a new
# protocol, and this set must shrink to nothing.
PENDING: set[str] = set()


# ---- the protocols -------------------------------------------------------------------------------


def protocol_id(config: Path) -> str:
    """The id in the `protocol = dict(id=...)` of a config."""
    for node in ast.parse(config.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "protocol":
            assert isinstance(node.value, ast.Call)
            for keyword in node.value.keywords:
                if keyword.arg == "id":
                    return str(ast.literal_eval(keyword.value))
    raise AssertionError(f"{config} has no protocol = dict(id=...) of its own")


CONFIGS = {  # path -> id
    path.relative_to(ROOT).as_posix(): protocol_id(path)
    for path in sorted((ROOT / "configs").rglob("*.py"))
    if not {"_base_", "suites"} & set(path.parts)
}
OF_A_PAPER = {
    protocol
    for config, protocol in CONFIGS.items()
    if not OWN_BY_NAME.search(Path(config).stem) and protocol not in OWN
}


# ---- a page --------------------------------------------------------------------------------------


@dataclasses.dataclass
class Page:
    """What a page says, and everything in which it breaks the form."""

    title: str = ""
    protocols: list[str] = dataclasses.field(default_factory=list)
    configs: list[str] = dataclasses.field(default_factory=list)
    reference: str = ""
    rows: list[list[str]] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    def steps_that(self, verdict: str) -> int:
        """Number of steps with a row whose last cell begins so ('no:', 'unknown:')."""
        return len({row[0] for row in self.rows if row[-1].startswith(verdict)})


def cells_of(line: str) -> list[str]:
    r"""Cells of a row of a table; `\|` is a bar inside a cell."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def parse_page(text: str) -> Page:
    """A page, with its problems."""
    page = Page()
    lines = text.splitlines()
    page.title = lines[0].removeprefix("# ") if lines and lines[0].startswith("# ") else ""
    if not page.title:
        page.problems.append("the first line is no '# title'")
    for key in ("Protocols", "Configs", "Reference"):
        found = [line.split(":", 1)[1] for line in lines if line.startswith(f"{key}:")]
        if len(found) != 1 or not found[0].strip():
            page.problems.append(f"needs one line '{key}: ...' and has {len(found)}")
            continue
        if key == "Reference":
            page.reference = found[0].strip()
        else:
            setattr(page, key.lower(), re.findall(r"`([^`]+)`", found[0]))
    for config in page.configs:
        if config not in CONFIGS:
            page.problems.append(f"config {config} does not exist")
    of_configs = {CONFIGS[config] for config in page.configs if config in CONFIGS}
    for protocol in sorted(set(page.protocols) ^ of_configs):
        page.problems.append(f"{protocol} stands in one of Protocols and Configs only")

    table = [line for line in lines if line.startswith("|")]
    if [cells_of(line) for line in table[:1]] != [COLUMNS] or not re.fullmatch(
        r"[|\s:-]+", "".join(table[1:2])
    ):
        page.problems.append(f"has no table | {' | '.join(COLUMNS)} |")
        return page
    page.rows = [cells_of(line) for line in table[2:]]
    for number, row in enumerate(page.rows, start=1):
        page.problems += [f"row {number} ({row[0]}): {p}" for p in problems_of_row(row)]
    page.rows = [row for row in page.rows if len(row) == len(COLUMNS)]
    order = [row[0] for i, row in enumerate(page.rows) if i == 0 or row[0] != page.rows[i - 1][0]]
    if order != list(STEPS):
        missing = [step for step in STEPS if step not in order]
        other = [step for step in order if step not in STEPS]
        page.problems.append(f"steps are {order}; missing {missing}, unknown {other}; see the form")
    return page


SOURCE = re.compile(
    r"\w[\w./ -]*\.\w+:\d+"  # a file and a line
    r"|\b(section|appendix|table|figure|fig\.|equation|algorithm|page)s? ?[A-Z0-9]"
    r"|\b(abstract|README|MODEL_CARD|model card|notebook)\b",
    re.IGNORECASE,
)
FILE = re.compile(r"(?<![\w/.-])([\w.-]+(?:/[\w.-]+)*\.py)(?::(\d+))?")


def problems_of_row(row: list[str]) -> list[str]:
    """In what a row of the table breaks the form."""
    if len(row) != len(COLUMNS):
        return [f"has {len(row)} cells and needs {len(COLUMNS)} (a bar inside a cell is \\|)"]
    problems = [
        f"'{name}' is empty" for name, cell in zip(COLUMNS, row, strict=True) if not cell.strip("`")
    ]
    _, reference, _, here, same = row
    if reference != "none" and not SOURCE.search(reference):
        problems.append(f"reference '{reference}' is no file:line, no section of a paper, not none")
    if not re.match(r"yes\b|(no|unknown): *\S", same):
        problems.append(f"same '{same}' begins with none of 'yes', 'no: why' and 'unknown: what'")
    for name, line in FILE.findall(here):
        problem = problem_of_file(name, int(line or 0))
        problems += [problem] if problem else []
    return problems


def problem_of_file(name: str, line: int) -> str:
    """What is wrong with a file named under 'here', of this repository or of a library."""
    path = next((p for p in (ROOT / name, ROOT / "configs" / name) if p.is_file()), None)
    if path is None and "/" in name:
        library, _, inside = name.partition("/")
        if (ROOT / library).exists():
            return f"{name} does not exist"
        spec = importlib.util.find_spec(library) if library.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            known = {"mmcv", "mmdet", "mmengine", "mmseg", "timm", "trackeval", "transformers"}
            return "" if library in known else f"{name} is neither here nor in a library"
        path = Path(next(iter(spec.submodule_search_locations)), inside)
    if path is None or not path.is_file():
        return f"{name} does not exist; write its path from the root"
    if line > len(path.read_text(encoding="utf-8").splitlines()):
        return f"{name} has no line {line}"
    return ""


FILES = sorted(path for path in PAGES.glob("*.md") if path != INDEX)
READ = {path: parse_page(path.read_text(encoding="utf-8")) for path in FILES}


# ---- the index -----------------------------------------------------------------------------------


def index() -> str:
    """The table in README.md: one line a protocol, and the protocols that wait for a page."""
    lines = [
        "| protocol | page | reference | steps that differ | steps with an unknown |",
        "|---|---|---|---|---|",
    ]
    lines += sorted(
        f"| `{protocol}` | [{page.title}]({path.name}) | {page.reference} "
        f"| {page.steps_that('no:')} | {page.steps_that('unknown:')} |"
        for path, page in READ.items()
        for protocol in page.protocols
    )
    if PENDING:
        names = ", ".join(f"`{protocol}`" for protocol in sorted(PENDING))
        lines += ["", f"Not compared yet ({len(PENDING)}): {names}."]
    return "\n".join(lines)


def with_index(text: str) -> str:
    """The text of README.md with the index as it should be."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{index()}\n\n{END}{rest.split(END)[1]}"


# ---- tests of the pages --------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_page_has_the_form(path: Path) -> None:
    assert not READ[path].problems, "\n".join([path.name, *READ[path].problems])


def test_every_protocol_of_a_paper_has_one_page() -> None:
    pages: dict[str, list[str]] = {}
    for path, page in READ.items():
        for protocol in page.protocols:
            pages.setdefault(protocol, []).append(path.name)
    assert {p: names for p, names in pages.items() if len(names) > 1} == {}, "on several pages"
    missing = OF_A_PAPER - set(pages) - PENDING
    assert not missing, f"no page in docs/protocols covers {sorted(missing)}"
    done = PENDING & set(pages)
    assert not done, f"have a page, take them out of PENDING: {sorted(done)}"
    gone = (PENDING | set(OWN)) - set(CONFIGS.values())
    assert not gone, f"no config has these ids of PENDING or OWN any more: {sorted(gone)}"
    assert not PENDING & set(OWN) and all(OWN.values())


def test_index_is_up_to_date() -> None:
    text = INDEX.read_text(encoding="utf-8")
    assert text == with_index(text), "run python tests/test_docs_of_protocols.py"


def test_form_in_the_readme_names_all_steps() -> None:
    text = INDEX.read_text(encoding="utf-8")
    named = re.findall(r"^\| `([a-z ]+)` \|", text.split("## The steps")[1], re.MULTILINE)
    assert named == list(STEPS)


# ---- tests of the parser -------------------------------------------------------------------------

CONFIG = "configs/segmentation/ade20k_linear_dinov3.py"
ROW = "| {} | dinov3/eval/x.py:31 | 2 \\| 3 | {} | yes |"
GOOD = "\n".join(
    [
        "# ADE20K",
        "",
        "Protocols: `ade20k-linear-dinov3`",
        f"Configs: `{CONFIG}`",
        "Reference: facebookresearch/dinov3 @ 6876159",
        "",
        "| step | reference | there | here | same |",
        "|---|---|---|---|---|",
        *(ROW.format(step, "pe_dense/files.py:1 and _base_/depth.py") for step in STEPS),
        "| selection | paper, section D.1 | last | none | no: it is not |",
        "",
    ]
)


def test_a_good_page_has_no_problem() -> None:
    page = parse_page(GOOD)
    assert page.problems == []
    assert page.protocols == ["ade20k-linear-dinov3"] and len(page.rows) == len(STEPS) + 1
    assert page.rows[0][2] == r"2 \| 3"
    assert (page.steps_that("no:"), page.steps_that("unknown:")) == (1, 0)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("# ADE20K", "ADE20K", "no '# title'"),
        ("Reference: ", "Source: ", "needs one line 'Reference"),
        ("`ade20k-linear-dinov3`", "`ade20k-linear`", "ade20k-linear stands in one of"),
        ("linear_dinov3.py`", "linear_nobody.py`", "does not exist"),
        ("| there | here |", "| here | there |", "has no table"),
        (ROW.format("crop", "pe_dense/files.py:1 and _base_/depth.py") + "\n", "", "['crop']"),
        ("| selection | paper", "| epoch | paper", "unknown ['epoch']"),
        ("| last | none |", "| last |  |", "'here' is empty"),
        ("| last | none |", "| last | none | more |", "has 6 cells"),
        ("| last | none |", "| last | pe_dense/nothing.py |", "pe_dense/nothing.py does not exist"),
        ("| last | none |", "| last | pe_dense/files.py:9999 |", "has no line 9999"),
        ("| last | none |", "| last | files.py |", "files.py does not exist"),
        ("| last | none |", "| last | nobodys/x.py |", "neither here nor in a library"),
        ("no: it is not", "no", "begins with none of"),
        ("no: it is not", "differs", "begins with none of"),
        ("no: it is not", "unknown: ", "begins with none of"),
        ("paper, section D.1", "the paper", "no file:line"),
    ],
)
def test_what_breaks_the_form_is_said(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    problems = parse_page(GOOD.replace(old, new)).problems
    assert any(problem in said for said in problems), problems


if __name__ == "__main__":
    INDEX.write_text(with_index(INDEX.read_text(encoding="utf-8")), encoding="utf-8")
