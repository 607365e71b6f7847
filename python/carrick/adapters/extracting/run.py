"""An extraction from two models to an adapter's folder: differences, their factors, one rename."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick import __version__, _core
from carrick.adapters.config import parse_config
from carrick.adapters.extracting.naming import is_turned, missing_prefix, named_as, task_of
from carrick.adapters.folder import WEIGHTS
from carrick.adapters.keys import PREFIX, tensor_names
from carrick.adapters.merging.run import AdapterReport
from carrick.adapters.truncation import Cut, truncate
from carrick.adapters.write import adapter_config, write_config
from carrick.checkpoints.element_types import element_size
from carrick.errors import PlanError
from carrick.partial import JOURNAL, PartialFolder
from carrick.plan.description import Place
from carrick.plan.job import CAST, COPY, Input, Job, Plan, Shard
from carrick.record import CHECKSUM, tensors_of, write_record
from carrick.record import NAME as RECORD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.adapters.extracting.targets import Targets
    from carrick.adapters.merging.engine import Engine
    from carrick.adapters.truncation import Truncation
    from carrick.checkpoints import Checkpoint, StoredTensor


class Extraction:
    """What is extracted, and how it is written.

    Parameters
    ----------
    base, tuned
        The two models.
    targets
        What becomes of each tensor.
    ranks, energy
        Rank of each matrix by its name; or the share of Σσ² that is kept.
    exact
        Take whole spectra.
    seed
        Key of the random directions otherwise.
    dtype
        Element type of the output, None for that of the tuned model's tensors.
    """

    def __init__(
        self,
        base: Checkpoint,
        tuned: Checkpoint,
        targets: Targets,
        *,
        ranks: Mapping[str, int],
        energy: float | None,
        exact: bool,
        seed: int,
        dtype: str | None,
    ) -> None:
        self.base = named_as(base, tuned)
        self.tuned = tuned
        self.targets = targets
        self.ranks = ranks
        self.energy = energy
        self.exact = exact
        self.seed = seed
        self.dtype = dtype
        self.prefix = missing_prefix(tuned)
        self.turned = is_turned(base)
        self.files = [*base.files, *tuned.files]

    def run(self, out: Path, engine: Engine, *, force: bool) -> AdapterReport:
        """Write the adapter to `out`."""
        start = time.perf_counter()
        report = AdapterReport(out, notes=list(self.targets.notes))
        with PartialFolder(out) as partial:
            engine = replace(engine, folder=partial.path)
            cut = self._truncate(engine)
            plan, ranks = self._plan(cut)
            report.config = self._config(ranks)
            options = json.dumps({**engine.options, "fresh": True})
            told = json.loads(_core.execute(plan.to_json(), str(partial.path), options, engine.progress))
            self._refuse_special(told)
            report.modules = self._modules(cut)
            write_record(self._record(report, told), partial.path)
            write_config(partial.path, report.config)
            partial.prepare_commit({WEIGHTS, f"{WEIGHTS}.part", JOURNAL, RECORD, "adapter_config.json"})
            _core.commit(str(partial.path), str(out), [WEIGHTS], force)
        report.take(told)
        report.bytes_read += cut.bytes_read
        report.seconds = time.perf_counter() - start
        return report

    def _truncate(self, engine: Engine) -> Truncation:
        """Find the factors of every difference; the base's elements are taken from the tuned model's."""
        jobs = [
            Job(name, self.tuned.tensors[name].shape, "F32", "linear", {"normalize": False}, self._pair(name))
            for name in self.targets.matrices
        ]
        cuts = [
            Cut(None if self.energy is not None else self.ranks[name], self.energy, self.turned)
            for name in self.targets.matrices
        ]
        return truncate(self.files, jobs, cuts, engine, exact=self.exact, seed=self.seed)

    def _pair(self, name: str) -> list[Input]:
        held = self.base.tensors[name]
        base = Place(held.file, held.begin, held.dtype)
        return [
            Input(self._place(self.tuned.tensors[name]), index=0, parameters={"weight": 1.0}),
            Input(base, index=1, parameters={"weight": -1.0}),
        ]

    def _place(self, tensor: StoredTensor) -> Place:
        return Place(len(self.base.files) + tensor.file, tensor.begin, tensor.dtype)

    def _plan(self, cut: Truncation) -> tuple[Plan, dict[str, int]]:
        jobs: list[Job] = []
        ranks: dict[str, int] = {}
        for index, name in enumerate(self.targets.matrices):
            rank = cut.rank(index)
            if rank == 0:
                continue
            path = self._path(name)
            ranks[path] = rank
            rows, columns = self.tuned.tensors[name].shape[:: -1 if self.turned else 1]
            dtype = self.dtype or self.tuned.tensors[name].dtype
            a_name, b_name = tensor_names(path, "linear")
            jobs.append(Job(a_name, (rank, columns), dtype, CAST, {}, [Input(cut.place(index, "a"))]))
            jobs.append(Job(b_name, (rows, rank), dtype, CAST, {}, [Input(cut.place(index, "b"))]))
        for name in [*self.targets.whole, *self.targets.biases]:
            wrapped = ".base_layer" if self._path(name) in ranks else ""
            key = f"{PREFIX}{self._path(name)}{wrapped}.{name.rpartition('.')[2]}"
            jobs.append(self._copy(key, self.tuned.tensors[name]))
        for head, embeddings in self.targets.heads.items():
            jobs.append(self._copy(f"{PREFIX}{head}", self.tuned.tensors[embeddings]))
        if not ranks:
            raise PlanError(self._why_nothing(whole=bool(jobs)))
        jobs.sort(key=lambda job: -element_size(job.dtype))
        offset = 0
        for job in jobs:
            job.offset = offset
            offset += job.nbytes
        return Plan([*self.files, cut.record], [Shard(WEIGHTS, offset)], jobs), ranks

    def _why_nothing(self, *, whole: bool) -> str:
        """Say why no matrix becomes factors; `whole`: tensors would be stored beside them."""
        two, targets = f"{self.tuned.ref}: differs from {self.base.ref}", self.targets
        if targets.unchosen:
            first, *others = targets.unchosen
            more = f" and {len(others)} more" if others else ""
            return (
                f"{two} in no matrix that --modules names, and in {first}{more} that it does not; name these, or leave "
                "--modules out"
            )
        if whole or targets.unsaved:
            return (
                f"{two} in no matrix of its layers, so that there is nothing to make an adapter of; keep the model as "
                "it is"
            )
        return f"{self.tuned.ref}: does not differ from {self.base.ref}; there is nothing to extract"

    def _path(self, name: str) -> str:
        """Path of a tensor's module in the model that PEFT wraps."""
        path = name.rpartition(".")[0]
        outside = path.partition(".")[0] in {"lm_head", "score", "classifier", "qa_outputs", "cls"}
        return path if outside else self.prefix + path

    def _copy(self, key: str, tensor: StoredTensor) -> Job:
        dtype = self.dtype or tensor.dtype
        method = COPY if dtype == tensor.dtype else CAST
        return Job(key, tensor.shape, dtype, method, {}, [Input(self._place(tensor))])

    def _config(self, ranks: dict[str, int]) -> dict[str, Any]:
        raw: dict[str, Any] = {
            "auto_mapping": None,
            "base_model_name_or_path": self.base.ref,
            "lora_alpha": 1,
            "peft_type": "LORA",
            "r": 1,
            "revision": self.base.revision,
            "task_type": task_of(self.tuned),
        }
        whole = {self._path(name) for name in self.targets.whole}
        return adapter_config(
            parse_config(raw, "adapter_config.json"),
            ranks,
            modules_to_save=whole | {head.rpartition(".")[0] for head in self.targets.heads},
            bias="all" if self.targets.biases else "none",
            fan_in_fan_out=self.turned,
        )

    def _modules(self, cut: Truncation) -> list[dict[str, Any]]:
        return [
            {
                "path": self._path(name),
                **{key: found[key] for key in ("rank", "sigma", "error", "norm", "route")},
            }
            for name, found in zip(self.targets.matrices, cut.modules, strict=True)
        ]

    def _refuse_special(self, told: Mapping[str, Any]) -> None:
        for kind, what in (("nan", "NaN"), ("inf", "infinities")):
            if told[kind]:
                name, count = next(iter(told[kind].items()))
                raise PlanError(
                    f"{self.tuned.ref}: {name.removeprefix(PREFIX)} holds {count} {what}, which adapters may not have"
                )

    def _record(self, report: AdapterReport, told: Mapping[str, Any]) -> dict[str, Any]:
        """carrick.json: from which bytes, how, to which bytes; no times, no absolute paths."""
        models = (("base", self.base), ("tuned", self.tuned))
        return {
            "format": "carrick-adapter-record",
            "version": 1,
            "carrick": __version__,
            "method": "extract",
            "energy": self.energy,
            "exact": self.exact,
            "seed": self.seed,
            "inputs": [
                {
                    "name": Path(model.ref).name,
                    "role": role,
                    "revision": model.revision,
                    "files": [
                        {"name": Path(file.path).name, "size": file.size, "header_hash": file.header_hash}
                        for file in model.files
                    ],
                }
                for role, model in models
            ],
            "modules": [
                {name: module[name] for name in ("path", "rank", "route", "error")}
                for module in report.modules
            ],
            "checksum": CHECKSUM,
            "tensors": tensors_of(told),
        }
