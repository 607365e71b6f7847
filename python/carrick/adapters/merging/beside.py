"""What adapters hold beside their factors: modules saved whole, trained biases, replaced rows of embeddings.

They are merged, kept from one adapter, or refused: nothing is dropped without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.adapters.keys import find_name
from carrick.adapters.merging.carried import add_carried, carried_by_all
from carrick.adapters.merging.outputs import real_of
from carrick.adapters.merging.task import task_of_saved
from carrick.adapters.merging.tokens import holders_of, merge_rows, refuse_beside, refuse_tied_head, union_of
from carrick.adapters.merging.tying import with_heads
from carrick.adapters.write import bias_name, plain_name, tokens_name
from carrick.checkpoints import find, is_float
from carrick.config.model_ref import ModelRef
from carrick.errors import PlanError
from carrick.plan.description import Block, Description, Place
from carrick.plan.job import CAST, Input, Job
from carrick.plan.same_bytes import same_bytes
from carrick.plan.tied import tied_embeddings
from carrick.plan.vocabulary import RESIZE_FIRST, resizes
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.merging.lineup import AdapterLineup
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe
    from carrick.checkpoints import StoredTensor
    from carrick.methods import Value

REFUSE, MERGE = "refuse", "merge"


def add_biases_of_b(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs) -> None:
    """Add Σ λwᵢsᵢ·biasᵢ of every module that has biases of B (`lora_bias`).

    Raises
    ------
    PlanError
        The method is not a sum: what it would do to a bias is not defined; or another adapter changes an embedding,
        which has no such bias in PEFT.
    """
    biased = [
        (entry, term) for entry in lineup.entries for term in entry.terms if term.module.bias is not None
    ]
    if not biased:
        return
    entry, term = biased[0]
    holder = lineup.names[term.index]
    if not recipe.is_sum or recipe.adapter.space == "factors":
        raise PlanError(
            f"{holder}: {entry.path} has a bias of B (`lora_bias`), which only `cat`, `linear` and `task_arithmetic` "
            "sum; merge with these, or into the base (--base BASE --dense)"
        )
    _refuse_embeddings(lineup, holder)
    outputs.lora_bias = True
    for entry in lineup.entries:
        double = any(term.module.bias is not None and term.module.bias.dtype == "F64" for term in entry.terms)
        described = Description(1, entry.rows, dtype="F64" if double else real_of(entry, recipe.precision))
        for term, scale in zip(entry.terms, recipe.term_scales(entry), strict=True):
            if term.module.bias is not None:
                place = term.place(term.module.bias)
                described.blocks.append(Block(place, 1, entry.rows, scale=scale))
        dtype = outputs.type_of(entry.dtype)
        outputs.jobs.append(Job(bias_name(entry.path), (entry.rows,), dtype, CAST, {}, [Input(described)]))


def _refuse_embeddings(lineup: AdapterLineup, holder: str) -> None:
    """Raise where an embedding is to be beside biases of B: `lora_bias` holds for all modules of an adapter."""
    for entry in lineup.entries:
        if entry.kind == "embedding":
            other = lineup.names[entry.terms[0].index]
            raise PlanError(
                f"{holder} has biases of B (`lora_bias`) and {other} has factors of the embedding {entry.path}, which "
                "PEFT loads in no one adapter; leave one of the two out, or merge into the base (--base BASE --dense)"
            )


def add_beside(
    lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, written: Collection[str], *, download: bool
) -> None:
    """Add modules saved whole, biases and tokens, as `modules_to_save` says.

    Parameters
    ----------
    lineup, recipe, outputs
        The merge.
    written
        Paths of the modules that get factors: what PEFT calls a tensor beside them hangs on it.
    download
        Fetch a base that is not in the local cache.

    Raises
    ------
    PlanError
        There are some, and nothing was said; or a merge is asked for that cannot be made.
    """
    policy = recipe.adapter.modules_to_save
    kept = None if policy in {REFUSE, MERGE} else index_of(policy, lineup)
    keepers = lineup.adapters if kept is None else [lineup.adapters[kept]]
    holders = [a for a in lineup.adapters if _trained(a) or a.tokens]
    if holders and policy == REFUSE:
        raise PlanError(_refusal(holders, recipe))
    if holders:
        _refuse_both_ways(lineup, keepers, written)
        if kept is None:
            _Sum(lineup, recipe, outputs, written, download=download).add()
        else:
            _keep(lineup, kept, outputs, written)
    add_carried(lineup, outputs, written, keepers)


def _refuse_both_ways(lineup: AdapterLineup, kept: Sequence[Adapter], written: Collection[str]) -> None:
    """Raise where a module is to have two of factors, trained tokens and whole weights: PEFT loads no such adapter."""
    entries = {entry.path: entry for entry in lineup.entries if entry.path in written}
    for adapter in kept:
        for name in adapter.saved:
            entry = entries.get(name.rpartition(".")[0])
            if entry is not None and name not in adapter.carried:
                other = lineup.names[entry.terms[0].index]
                raise PlanError(
                    f"{entry.path}: {adapter.ref} saves it whole and {other} has LoRA factors for it, which one "
                    "adapter cannot hold; keep the modules of another adapter with --modules-to-save ADAPTER, or "
                    "merge into the base (--base BASE --dense)"
                )
    refuse_beside(lineup, kept, {path: lineup.names[entry.terms[0].index] for path, entry in entries.items()})


def _trained(adapter: Adapter) -> dict[str, StoredTensor]:
    """Tensors that were trained whole, by their names in the base."""
    trained = {name: tensor for name, tensor in adapter.saved.items() if name not in adapter.carried}
    return trained | adapter.biases


def _bias_of(adapters: Sequence[Adapter], written: Collection[str]) -> str:
    """Return what `bias` has to say for all these adapters' biases: `lora_only` is of modules with factors."""
    kinds = {adapter.config.bias for adapter in adapters}
    paths = {name.rpartition(".")[0] for adapter in adapters for name in adapter.biases}
    if "all" in kinds or not paths <= set(written):
        return "all"
    return "lora_only" if "lora_only" in kinds else "none"


def _refusal(holders: list[Adapter], recipe: Recipe) -> str:
    held = "; ".join(f"{a.ref} has {_shown(a)}" for a in holders)
    summed = ", --modules-to-save merge with --base BASE adds the weighted differences to the base's"
    return (
        f"{held}: these are no updates of low rank. Say what becomes of them: --modules-to-save ADAPTER keeps those "
        f"of one adapter{'' if recipe.method == 'layer_swap' else summed}"
    )


def _shown(adapter: Adapter) -> str:
    names = [*_trained(adapter), *(f"tokens of {path}" for path in adapter.tokens)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def index_of(policy: str, lineup: AdapterLineup) -> int:
    """Find the adapter that is meant: by name, or by its number from 1."""
    if policy in lineup.names:
        return lineup.names.index(policy)
    if policy.isdecimal() and 1 <= int(policy) <= len(lineup.names):
        return int(policy) - 1
    raise PlanError(
        f"modules_to_save: {policy!r} is none of the adapters ({', '.join(lineup.names)}), nor `merge` or `refuse`"
        f"{nearest(policy, lineup.names)}"
    )


def _keep(lineup: AdapterLineup, index: int, outputs: Outputs, written: Collection[str]) -> None:
    """Copy what one adapter has; what others have is named in a note."""
    adapter = lineup.adapters[index]
    for name, tensor in _trained(adapter).items():
        outputs.add_copy(plain_name(name, written), tensor.shape, lineup.place(index, tensor))
    for path, tokens in adapter.tokens.items():
        outputs.add_copy(tokens_name(path), tokens.rows.shape, lineup.place(index, tokens.rows))
    outputs.modules_to_save = with_heads(adapter.config.modules_to_save, _trained(adapter))
    outputs.kept = adapter
    outputs.bias = _bias_of([adapter], written)
    outputs.task = index
    # By the module's path: a list alone means the input embeddings, whatever they are called.
    outputs.tokens = {path: tokens.indices for path, tokens in adapter.tokens.items()}
    outputs.notes.append(f"modules saved whole, biases and tokens are those of {adapter.ref}.")
    for other in lineup.adapters:
        if other is not adapter and (_trained(other) or other.tokens):
            outputs.notes.append(f"those of {other.ref} are left out: {_shown(other)}.")


class _Sum:
    """θ₀ + Σ wᵢ·(θᵢ − θ₀) of every tensor that is saved whole, and of every row that was trained."""

    def __init__(
        self,
        lineup: AdapterLineup,
        recipe: Recipe,
        outputs: Outputs,
        written: Collection[str],
        *,
        download: bool,
    ) -> None:
        base = recipe.document.base_model
        if base is None:
            raise PlanError(
                "modules_to_save: `merge` adds differences to the base's tensors; name it with --base BASE "
                "(`base_model`), or keep one adapter's with --modules-to-save ADAPTER"
            )
        if recipe.method == "layer_swap":
            raise PlanError(
                "modules_to_save: `layer_swap` sums nothing; keep one adapter's with --modules-to-save ADAPTER "
                "(`modules_to_save`)"
            )
        if base.adapters:
            put = " ".join(map(str, (ModelRef(base.path, base.revision), *base.adapters)))
            raise PlanError(
                f"modules_to_save: the base {base} has adapters on it, and only a base's own tensors are read; make a "
                f"model of them first (`carrick adapters apply {put} -o MODEL`), and name that"
            )
        self.lineup = lineup
        self.outputs = outputs
        self.recipe = recipe
        self.written = written
        self.base = find(base.path, base.revision, download=download)
        self.outputs.base = self.base
        self.first_file = len(lineup.files)
        self.lineup.files.extend(self.base.files)

    def add(self) -> None:
        """Add the jobs."""
        adapters = self.lineup.adapters
        refuse_tied_head(adapters, self.base)
        names = dict.fromkeys(name for adapter in adapters for name in _trained(adapter))
        paths = dict.fromkeys(path for adapter in adapters for path in adapter.tokens)
        for name in names:
            self._tensor(name)
        for path in paths:
            self._rows(path)
        configs = [adapter.config for adapter in adapters]
        self.outputs.modules_to_save = with_heads((n for c in configs for n in c.modules_to_save), names)
        self.outputs.bias = _bias_of(adapters, self.written)
        self.outputs.task = task_of_saved(adapters)
        for held, what in ((names, "modules saved whole"), (paths, "trained tokens")):
            if held:
                self.outputs.notes.append(f"{what} are summed as weighted differences from the base.")

    def _rows(self, path: str) -> None:
        holder = next(iter(holders_of(self.lineup.adapters, path).values()))
        name, width = f"{path}.weight", holder.tokens[path].rows.shape[1:]
        stored = self._of_base(name, width, f"of which {holder.ref} has trained tokens")
        place = Place(self.first_file + stored.file, stored.begin, stored.dtype)
        if max(union_of(self.lineup.adapters, path), default=0) >= stored.shape[0]:
            # The new rows as they were before the training, where the adapters have them.
            stored, place = carried_by_all(self.lineup, path) or (stored, place)
        merge_rows(self.lineup, self.outputs, path, (stored, place), self._weights(name))

    def _tensor(self, name: str) -> None:
        holder = next(adapter for adapter in self.lineup.adapters if name in _trained(adapter))
        stored = self._of_base(name, _trained(holder)[name].shape, f"which {holder.ref} saves whole")
        place = Place(self.first_file + stored.file, stored.begin, stored.dtype)
        inputs = [Input(place, base=True)]
        weights = self._weights(name)
        for index, adapter in enumerate(self.lineup.adapters):
            tensor = _trained(adapter).get(name)
            if tensor is not None:
                self._check_shape(name, tensor, stored, adapter)
                inputs.append(
                    Input(
                        self.lineup.place(index, tensor), index=index, parameters={"weight": weights[index]}
                    )
                )
        key = plain_name(name, self.written)
        if not all(is_float(one.dtype) for one in inputs):
            self._check_equal(name, stored)
            self.outputs.add_copy(key, stored.shape, place)
            return
        dtype = self.outputs.type_of(inputs[1].dtype)
        options: dict[str, Value] = {"normalize": False, "lambda": 1.0}
        self.outputs.jobs.append(Job(key, stored.shape, dtype, "task_arithmetic", options, inputs))

    def _check_equal(self, name: str, stored: StoredTensor) -> None:
        """Raise where one has other integers than the base: weights leave none of a difference."""
        holders = [adapter for adapter in self.lineup.adapters if name in _trained(adapter)]
        for adapter in holders:
            own = _trained(adapter)[name]
            if same_bytes(adapter.checkpoint, own, self.base, stored) is False:
                dtype = next(one for one in (own.dtype, stored.dtype) if not is_float(one))
                raise PlanError(
                    f"{adapter.ref}: {name} is not the same as in {self.base.ref}, and {dtype} is not merged, only "
                    "copied where all are equal; keep one adapter's with --modules-to-save "
                    f"{' or '.join(holder.ref for holder in holders)}"
                )

    def _of_base(self, name: str, shape: tuple[int, ...], held: str) -> StoredTensor:
        """Find what the base has for a tensor: a head that it ties and does not store is its embeddings."""
        tensors = self.base.tensors
        found = find_name(name, tensors)
        if found is None:
            found = tied_embeddings(self.base, name, shape, self.recipe.document.roles)
            if found is not None:
                self.outputs.notes.append(
                    f"the base ties {name} to {found}: the differences from that are merged."
                )
        if found is None:
            raise PlanError(
                f"{self.base.ref}: has no tensor {name!r}, {held}, so that there is no difference to merge; keep one "
                "adapter's with --modules-to-save ADAPTER"
            )
        return tensors[found]

    def _weights(self, name: str) -> list[float]:
        values = self.recipe.named(name)
        return [values.scale * weight for weight in values.weights]

    @staticmethod
    def _check_shape(name: str, tensor: StoredTensor, stored: StoredTensor, adapter: Adapter) -> None:
        if tensor.shape != stored.shape:
            first = f"{RESIZE_FIRST}, or " if resizes(name, stored.shape, tensor.shape) else ""
            raise PlanError(
                f"{adapter.ref}: {name} has the shape {list(tensor.shape)}, the base's has {list(stored.shape)}; "
                f"{first}keep one adapter's with --modules-to-save ADAPTER"
            )
