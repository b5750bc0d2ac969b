"""A suite and some encoders -> the runs still to do, each with its state and estimated cost.

A suite is a Python config with one value, for example configs/suites/mini.py:

    suite = dict(
        weights="random",                       # or "released", for every encoder
        seeds=1,                                # seeds 0 .. seeds - 1
        runs=[dict(config="configs/detection/atss_pe_t16_mini.py", minutes=4)],
    )

`minutes` is the cost of one run on the machine that the suite is meant for; it is used until a
record of the same protocol, made on this machine, knows better. `layers=N` repeats a run for N
layers of the encoder, evenly spread, the last one among them, where the config has a `layer`; with
`layer_curves=True` in the suite, scores by layer are drawn when all runs have ended.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.encoders.zoo import find_encoder
from pe_dense.files import file_sha256
from pe_dense.results import provenance
from pe_dense.results.record import Record
from pe_dense.results.scored_content import ScoredContent
from pe_dense.results.store import encoder_folder, measured_path, record_path
from pe_dense.run.batch_plan import plan_batches
from pe_dense.run.config import check_data, encoder_facts, load_config, load_template
from pe_dense.run.config_files import CONFIGS, config_files, find_config
from pe_dense.run.error_text import sentence, told
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.recipe import with_accepted
from pe_dense.run.scored_data import content_of_config, require_same_data

SUITES = CONFIGS / "suites"
SUITE_KEYS = {"weights", "seeds", "runs"}
RUN_KEYS = {"config", "minutes", "options", "layers"}


@dataclass(frozen=True)
class Suite:
    """What a suite file says; see the module docstring."""

    name: str
    weights: str
    seeds: int
    runs: tuple[Mapping[str, Any], ...]
    layer_curves: bool = False


@dataclass(frozen=True)
class Job:
    """One run: an encoder under a protocol with a seed.

    Attributes:
        config: Config file of the protocol.
        encoder: Zoo name.
        weights: 'random', 'released', a path or 'hf://...'.
        seed: Random seed.
        options: Overrides of config values.
        amp: Whether the encoder runs in bfloat16.
        task: Task of the protocol.
        dataset: Data set of the protocol.
        protocol: Protocol id, and `version` of it.
        version: Protocol version.
        config_sha256: Hash of the protocol's settings, as records hold it.
        work_dir: Where its checkpoints, log and status go.
        minutes: What the suite expects it to take.
        training_free: Whether the protocol trains nothing, so that scoring is all there is.
        speed: Options of `run.speed.OPTIONS` that are on; no part of the protocol.
        accept: Faults of the data that are taken, by name.
    """

    config: str
    encoder: str
    weights: str
    seed: int
    options: tuple[tuple[str, Any], ...]
    amp: bool
    task: str
    dataset: str
    protocol: str
    version: int
    config_sha256: str
    work_dir: Path
    minutes: float
    training_free: bool = False
    speed: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()

    @property
    def tower(self) -> str:
        """Encoder, with its weights where they are not the released ones: 'pe_t16 (random)'."""
        return self.encoder if self.weights == "released" else f"{self.encoder} ({self.weights})"

    @property
    def name(self) -> str:
        """How people see it: 'pe_spatial_t16_512 (random) mini-detection-v1 seed 0'."""
        return f"{self.tower} {self.protocol}-v{self.version} seed {self.seed}"

    def train_command(self) -> list[str]:
        """Command that trains it, or goes on where it was interrupted; [] if nothing is trained."""
        if self.training_free:
            return []
        command = [*tool("train"), self.config, "--encoder", self.encoder]
        command += ["--weights", self.weights, "--seed", str(self.seed), "--resume"]
        command += ["--work-dir", str(self.work_dir), *self._options()]
        return [*command, *(["--amp"] if self.amp else []), *self._switches()]

    def test_command(self, records: Path) -> list[str]:
        """Command that scores it and writes its record."""
        command = [*tool("test"), self.config]
        if self.training_free:
            command += ["--weights", self.weights, "--seed", str(self.seed)]
            command += ["--work-dir", str(self.work_dir), *(["--amp"] if self.amp else [])]
        else:
            command.append(str(self.work_dir))
        command += ["--encoder", self.encoder, "--records", str(records)]
        return [*command, *self._options(), *self._switches()]

    def _switches(self) -> list[str]:
        accepted = [word for name in self.accept for word in ("--accept", name)]
        return [*(f"--{name}" for name in self.speed), *accepted]

    def _options(self) -> list[str]:
        if not self.options:
            return []
        return ["--cfg-options", *(f"{key}={value}" for key, value in self.options)]


def tool(name: str) -> list[str]:
    """How a tool is started: by its file in a checkout that is the current folder, else by name."""
    file = Path("tools", f"{name}.py")
    is_here = file.resolve() == (provenance.repository_root() / file).resolve()
    return [sys.executable, str(file)] if is_here else [sys.executable, "-m", "pe_dense", name]


@dataclass(frozen=True)
class PlannedJob:
    """A job with what is known of it before it starts.

    Attributes:
        job: The job.
        record: Its record, where it is done already.
        seconds: Estimated cost; 0 where it is done.
        basis: What the estimate rests on.
    """

    job: Job
    record: Record | None
    seconds: float
    basis: str


def load_suite(name: str) -> Suite:
    """The suite of that name in configs/suites, or in a file.

    Raises:
        ValueError: If there is none, or it is not a suite; it lists the known ones.
    """
    path = Path(name) if name.endswith(".py") else SUITES / f"{name}.py"
    file = find_config(path)
    if not file.is_file():
        known = ", ".join(sorted(suite.stem for suite in config_files(SUITES))) or "none"
        raise ValueError(f"--suite {name}: {path} does not exist; known suites: {known}")
    try:
        content = Config.fromfile(str(file)).get("suite")
    except Exception as error:  # a config is code, which may raise anything
        raise ValueError(f"suite {path} cannot be read: {error}") from error
    if not isinstance(content, Mapping) or content.keys() - {"layer_curves"} != SUITE_KEYS:
        raise ValueError(f"suite {path} must be: suite = dict(weights=..., seeds=..., runs=[...])")
    for i, run in enumerate(content["runs"]):
        if not isinstance(run, Mapping) or not {"config"} <= run.keys() <= RUN_KEYS:
            raise ValueError(
                f"suite {path}: runs[{i}] must be a dict with 'config' and, where wanted, "
                "'minutes', 'options' and 'layers'"
            )
    if not content["runs"] or not isinstance(content["seeds"], int) or content["seeds"] < 1:
        raise ValueError(f"suite {path} must have at least one run and one seed")
    runs = tuple(run.to_dict() if hasattr(run, "to_dict") else run for run in content["runs"])
    curves = bool(content.get("layer_curves"))
    return Suite(path.stem, content["weights"], content["seeds"], runs, curves)


def make_jobs(
    suite: Suite,
    encoders: Sequence[str],
    tasks: Sequence[str] = (),
    seeds: int | None = None,
    data_roots: Mapping[str, str] | None = None,
    amp: bool = False,
    work_root: Path = Path("work_dirs"),
    speed: Sequence[str] = (),
    accept: Sequence[str] = (),
) -> list[Job]:
    """All runs of a suite: run x encoder x seed.

    Args:
        suite: The suite.
        encoders: Zoo names, each with '=WEIGHTS' behind it where the suite's do not fit.
        tasks: Only these tasks; all if empty.
        seeds: Number of seeds, instead of the suite's.
        data_roots: Data set -> folder, instead of the configs'.
        amp: Run encoders in bfloat16.
        work_root: Folder above all work dirs.
        speed: Options of `run.speed.OPTIONS` that are on in every run.
        accept: Faults of the data that every run takes, by name.

    Raises:
        ValueError: If an encoder, a task or a data set is unknown, or two jobs are the same.
    """
    jobs, known_tasks, datasets = [], set(), set()
    roots = dict(data_roots or {})
    for run in suite.runs:
        plain = load_template(run["config"])
        if "protocol" not in plain:
            raise ValueError(f"suite {suite.name}: {run['config']} defines no protocol")
        protocol = plain.protocol
        known_tasks.add(protocol.task)
        datasets.add(protocol.dataset)
        if tasks and protocol.task not in tasks:
            continue
        base = dict(run.get("options", {}))
        if protocol.dataset in roots:
            base["data_root"] = roots[protocol.dataset]
        for text in encoders:
            encoder, _, weights = text.partition("=")
            find_encoder(encoder)
            for options in _by_layer(base, run, plain, encoder):
                template = load_template(run["config"], options=options)
                with_accepted(template, accept)
                plan = plan_batches(template, 1, options, run["config"])
                digest = protocol_sha256(template, amp, None if plan is None else plan.total_batch)
                changed = digest != protocol_sha256(plain)
                # A run that holds several seeds needs no second one, nor does one in which nothing
                # is left to chance.
                fixed = plain.get("training_free") and (weights or suite.weights) != "random"
                for seed in range(1 if fixed or "seeds" in plain else seeds or suite.seeds):
                    job = Job(
                        config=run["config"],
                        encoder=encoder,
                        weights=weights or suite.weights,
                        seed=seed,
                        options=tuple(sorted(options.items())),
                        amp=amp,
                        task=protocol.task,
                        dataset=protocol.dataset,
                        protocol=f"{protocol.id}.mod-{digest[:8]}" if changed else protocol.id,
                        version=protocol.version,
                        config_sha256=digest,
                        work_dir=Path(),
                        minutes=float(run.get("minutes", 0)),
                        training_free=bool(plain.get("training_free")),
                        speed=tuple(speed),
                        accept=tuple(accept),
                    )
                    folder = work_root / suite.name / work_name(job)
                    jobs.append(dataclasses.replace(job, work_dir=folder))
    unknown = set(tasks) - known_tasks
    if unknown:
        raise ValueError(
            f"--tasks {' '.join(sorted(unknown))}: suite {suite.name} has "
            f"{', '.join(sorted(known_tasks))}"
        )
    if set(roots) - datasets:
        raise ValueError(
            f"--data {' '.join(sorted(set(roots) - datasets))}: suite {suite.name} uses the data "
            f"sets {', '.join(sorted(datasets))}"
        )
    folders = [job.work_dir for job in jobs]
    twice = sorted({str(folder) for folder in folders if folders.count(folder) > 1})
    if twice:
        raise ValueError(f"the same run is asked for twice: {', '.join(twice)}; name each once")
    return jobs


def _by_layer(
    options: Mapping[str, Any], run: Mapping[str, Any], config: Config, encoder: str
) -> list[dict[str, Any]]:
    """The overrides of a run, once, or once for every layer that it asks for."""
    if "layers" not in run:
        return [dict(options)]
    if "layer" not in config:
        raise ValueError(f"{run['config']} has no 'layer', so 'layers' in a suite does nothing")
    depth, count = encoder_facts(encoder)["depth"], int(run["layers"])
    layers = sorted({math.ceil(depth * part / count) - 1 for part in range(1, count + 1)})
    return [{**options, "layer": layer} for layer in layers]


def work_name(job: Job) -> Path:
    """Folder of a job below that of its suite: <encoder>/<weights>/<protocol>-v<n>.seed<m>."""
    weights = Path(job.weights).name if job.weights not in ("random", "released") else job.weights
    protocol = f"{job.protocol}-v{job.version}.seed{job.seed}"
    return Path(encoder_folder(job.encoder)) / weights.replace(":", "+") / protocol


def find_faults(jobs: Sequence[Job]) -> dict[Path, str]:
    """Work dir of a job -> why its data cannot be used, found before the first job starts.

    Raises:
        ValueError: If no job can run; it is the fault of the first.
    """
    seen: dict[tuple[str, str], str | None] = {}
    for job in jobs:
        key = _data_key(job)
        if key not in seen:
            try:
                cfg, _ = load_config(job.config, options=dict(job.options))
                with_accepted(cfg, job.accept)
                check_data(cfg, ("train", "val", "test"))
                seen[key] = None
            except (ValueError, OSError) as error:
                seen[key] = told(error) or sentence(error)
    faults = {job.work_dir: fault for job in jobs if (fault := seen[_data_key(job)])}
    if faults and len(faults) == len(jobs):
        raise ValueError(next(iter(faults.values())))
    return faults


def _data_key(job: Job) -> tuple[str, str]:
    """What the data of a job depend on, as a key; options may be lists, which are none."""
    return job.config, repr((job.options, job.accept))


def unreadable_records(planned: Sequence[PlannedJob], records: Path) -> dict[Path, str]:
    """Work dir of a job -> the file in the place of its record that is none.

    Without this a training would end with nowhere to go. Released weights have their place from
    their hash, which is not known before they are loaded: tools/test.py looks there.
    """
    faults = {}
    for plan in planned:
        job = plan.job
        sha256 = "random" if job.weights == "random" else None
        if Path(job.weights).is_file():
            sha256 = file_sha256(Path(job.weights))
        if plan.record is not None or sha256 is None:
            continue
        place = records / measured_path(job.encoder, sha256, job.protocol, job.version, job.seed)
        if place.exists():
            faults[job.work_dir] = (
                f"{place} cannot be read as the record of this run; restore it, or remove it and "
                "run this again"
            )
    return faults


def refused_jobs(
    jobs: Sequence[Job], readable: Sequence[Record], valid: Sequence[Record]
) -> list[tuple[Job, Record]]:
    """Jobs whose record is there and is not shown, since a check refuses it, and that record."""
    found = [(job, find_record(job, readable)) for job in jobs]
    return [(j, r) for j, r in found if r is not None and find_record(j, valid) is None]


def refuse_other_data(planned: Sequence[PlannedJob]) -> None:
    """Refuse to take a record for a job's result where the data have changed since.

    Data that are not on this machine cannot be compared, and their records stay.

    Raises:
        ValueError: At the first record of other data.
    """
    contents: dict[tuple, ScoredContent | None] = {}
    for done in planned:
        job, record = done.job, done.record
        if record is None or record.dataset.sha256 is None:
            continue
        key = _data_key(job)
        if key not in contents:
            options = dict(job.options)
            there = Path(str(load_template(job.config, options=options).get("data_root", ".")))
            cfg = load_config(job.config, options=options)[0] if there.exists() else None
            if cfg is not None:
                with_accepted(cfg, job.accept)
            contents[key] = None if cfg is None else content_of_config(cfg)
        require_same_data(record, contents[key])


def make_plan(jobs: Sequence[Job], records: Sequence[Record]) -> list[PlannedJob]:
    """Jobs with the records that they have already, and the estimated cost of the others.

    Raises:
        ValueError: If a record of a job was made under other settings of the same protocol
            version.
    """
    machine = provenance.hardware()
    planned = []
    for job in jobs:
        record = find_record(job, records)
        if record is not None:
            planned.append(PlannedJob(job, record, 0.0, "recorded"))
            continue
        same = [
            (r.cost.train_s or 0.0) + (r.cost.eval_s or 0.0)
            for r in records
            if r.origin == "measured"
            and (r.protocol.id, r.protocol.version) == (job.protocol, job.version)
            and r.hardware is not None
            and (r.hardware.cpu, r.hardware.gpu) == (machine.cpu, _gpu_name())
        ]
        if same:
            planned.append(PlannedJob(job, None, statistics.median(same), "like recorded runs"))
        else:
            planned.append(PlannedJob(job, None, 60 * job.minutes, "suite file"))
    return planned


def find_record(job: Job, records: Sequence[Record]) -> Record | None:
    """The record of a job, if it is there.

    Raises:
        ValueError: If it was made under other settings of the same protocol version.
    """
    for record in records:
        key = record.encoder.name, record.protocol.id, record.protocol.version, record.seed
        if record.origin != "measured" or key != (
            job.encoder, job.protocol, job.version, job.seed
        ):  # fmt: skip
            continue
        if not _same_weights(job, record):
            continue
        if record.protocol.config_sha256 != job.config_sha256:
            raise ValueError(
                f"{record_path(record)} was made under other settings of {job.protocol}-v"
                f"{job.version} than {job.config} has now; raise the protocol's version there, or "
                "restore the config"
            )
        return record
    return None


def _same_weights(job: Job, record: Record) -> bool:
    if job.weights == "random" or record.encoder.weights == "random":
        return job.weights == record.encoder.weights
    if Path(job.weights).is_file():
        return file_sha256(Path(job.weights)) == record.encoder.weights_sha256
    weights = find_encoder(job.encoder).weights if job.weights == "released" else job.weights
    return weights == record.encoder.weights


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
