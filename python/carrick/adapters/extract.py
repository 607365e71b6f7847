"""`carrick.adapters.extract`: the difference between a tuned model and its base as a LoRA adapter."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from carrick.adapters.extracting.run import Extraction
from carrick.adapters.extracting.targets import find_targets
from carrick.adapters.in_memory import take_into_memory, target_of
from carrick.adapters.merging.engine import Engine
from carrick.adapters.patterns import Patterns
from carrick.checkpoints import find
from carrick.config.dtypes import read_dtype
from carrick.config.location import Location
from carrick.config.seed import check_seed
from carrick.config.tree import Scalar
from carrick.errors import ConfigError
from carrick.memory import budget, container_limit, memory_in_use
from carrick.output_folder import check_replaceable
from carrick.plan.output import check_named_inputs, check_output
from carrick.plan.quantized import refuse_quantized
from carrick.progress import listener
from carrick.suggestions import nearest
from carrick.threads import check_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from carrick.adapters.merging.run import AdapterReport
    from carrick.progress import Progress


def extract(
    base: str | Path,
    tuned: str | Path,
    out: str | Path | None = None,
    *,
    rank: int | None = None,
    energy: float | None = None,
    rank_of: Mapping[str, int] | None = None,
    modules: Sequence[str] | None = None,
    modules_to_save: Literal["differing", "none"] = "differing",
    exact: bool = False,
    dtype: str | None = None,
    seed: int = 0,
    memory: str | int | None = None,
    threads: int | None = None,
    force: bool = False,
    download: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> AdapterReport:
    r"""Write the difference between two models as a LoRA adapter that PEFT loads.

    Every matrix within the layers that differs becomes its best factors ΔW ≈ B·A; embeddings, head, norms and
    biases that differ are stored whole. What is equal is left out.

    Parameters
    ----------
    base, tuned
        The model that was tuned, and what it became: folders, .safetensors files, or Hub ids.
    out
        Folder of the adapter, made by one rename at the end. None leaves it in memory: the report's `state_dict` and
        `config`.
    rank, energy
        Rank of all factors; or the share of Σσ² that they keep, so that each module gets the rank it needs.
    rank_of
        Ranks of single modules by pattern, as in PEFT's `rank_pattern`: the first one that matches counts.
    modules
        Modules to extract, by patterns for the end of a path (``"(q|v)_proj"``); by default all that differ.
    modules_to_save
        `differing` stores what differs and has no factors, `none` leaves it out and says so.
    exact
        Compute whole spectra; by default only the leading directions are, with an error that stays within about a
        hundredth of the best.
    dtype
        Element type of the output; by default that of the tuned model.
    seed
        Key of the random directions that the search for the leading ones begins with; `exact` needs none.
    memory, threads, force, download, progress
        As for :func:`carrick.merge`.

    Returns
    -------
    AdapterReport
        Its `modules` say for each module what was kept: `rank`, `sigma`, and `error`, the measured
        ‖ΔW − B·A‖/‖ΔW‖ before the factors are rounded to their type.

    Raises
    ------
    ConfigError, PlanError, FormatError
        What was asked for cannot be done; nothing is left behind.

    Examples
    --------
    >>> import numpy as np, pathlib, safetensors.numpy, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> names = [f"layers.{i}.{n}.weight" for i in range(2) for n in ("q_proj", "v_proj", "o_proj")]
    >>> base = {name: np.zeros((4, 4), np.float32) for name in names}
    >>> tuned = base | {names[0]: np.outer([1, 2, 3, 4], [1, 0, 0, 0]).astype(np.float32)}
    >>> for name, tensors in (("base", base), ("tuned", tuned)):
    ...     safetensors.numpy.save_file(tensors, folder / f"{name}.safetensors")
    >>> report = extract(folder / "base.safetensors", folder / "tuned.safetensors", folder / "adapter", rank=2)
    >>> report.config["target_modules"], report.config["r"]
    (['layers.0.q_proj'], 1)
    """
    check_request(rank, energy, rank_of or {}, modules_to_save)
    check_seed(seed)
    check_threads(threads)
    with ExitStack() as stack:
        target = target_of(out, stack)
        check_replaceable(target, force=force)
        check_named_inputs(target, [str(base), str(tuned)])
        allowed, capped = budget(memory, container_limit(), memory_in_use())
        first, second = (find(str(model), download=download) for model in (base, tuned))
        for model in (first, second):
            refuse_quantized(model)
        check_output(target, [], [Path(file.path) for model in (first, second) for file in model.files])
        targets = find_targets(first, second, modules, save=modules_to_save == "differing")
        extraction = Extraction(
            first,
            second,
            targets,
            ranks=_ranks(targets.matrices, rank, rank_of or {}),
            energy=energy,
            exact=exact,
            seed=seed,
            dtype=None if dtype is None else read_dtype(Scalar(dtype, Location()), "dtype"),
        )
        engine = Engine(allowed, threads, "cpu", download, listener(progress))
        report = extraction.run(target, engine, force=force)
        report.notes += [capped] if capped else []
        if out is None:
            take_into_memory(report)
        return report


def check_request(
    rank: int | None, energy: float | None, rank_of: Mapping[str, int], modules_to_save: str
) -> None:
    """Refuse what does not go together.

    Raises
    ------
    ConfigError
        Says which of the parameters, and what would do.
    """
    if energy is not None and (rank is not None or rank_of):
        raise ConfigError("the energy decides the ranks: give --energy, or --rank and --rank-of")
    if energy is None and rank is None:
        raise ConfigError("say how much to keep: the rank (--rank 64), or the share of Σσ² (--energy 0.9)")
    if energy is not None and not 0 < energy <= 1:
        raise ConfigError(f"the energy is {energy}; it lies above 0, up to 1")
    for what, value in [("the rank", rank), *((f"the rank of {name!r}", r) for name, r in rank_of.items())]:
        if value is not None and value < 1:
            raise ConfigError(f"{what} is {value}; it is at least 1")
    if modules_to_save not in {"differing", "none"}:
        raise ConfigError(f"modules_to_save is {modules_to_save!r}; it is `differing` or `none`")


def _ranks(names: Iterable[str], rank: int | None, rank_of: Mapping[str, int]) -> dict[str, int]:
    patterns = Patterns(rank_of, "--rank-of")
    paths = {name: name.rpartition(".")[0] for name in names}
    names_of = {path.rpartition(".")[2] for path in paths.values()}
    for pattern in rank_of:
        if not any(Patterns({pattern: 1}, "--rank-of").find(path) for path in paths.values()):
            raise ConfigError(f"--rank-of: {pattern!r} matches no module{nearest(pattern, names_of)}")
    return {name: patterns.find(path) or rank or 1 for name, path in paths.items()}
