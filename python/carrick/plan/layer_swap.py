"""Layer swapping: every tensor of the output is one expert's, byte for byte; no arithmetic.

Layers are told by number, their parts by role. What stands outside the layers (embeddings, head, final norm)
comes from where `embeddings`, `head` and `final_norm` say, the task expert by default; `average` is the one
case that is computed, as a linear merge of both experts. Where the head is tied to the embeddings both follow
`embeddings`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.checkpoints.element_types import is_float
from carrick.checkpoints.layers import Stack, locate
from carrick.errors import PlanError
from carrick.plan.job import CAST, COPY, COPY_EQUAL, Input, Job
from carrick.plan.partitions import Share, counted_share, partition_share
from carrick.plan.roles import ATTENTION, EMBEDDINGS, FINAL_NORM, HEAD, role_in_layer, role_outside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carrick.config import Document, LayerSwap
    from carrick.plan.lineup import Models
    from carrick.plan.match import Target

TASK, LANGUAGE, AVERAGE, BASE = "task", "language", "average", "base"


def tied_note(swap: LayerSwap | None) -> list[str]:
    """Say that a tied head follows the embeddings, where the user asked for something else."""
    if swap is None or swap.head == swap.embeddings:
        return []
    return [
        f"`head: {swap.head}` changes nothing: the head is tied to the embeddings, which come from "
        f"`{swap.embeddings}`."
    ]


class Experts:
    """Tells for every tensor which expert gives it.

    Parameters
    ----------
    document
        A document of `layer_swap`.
    stacks
        Stacks of layers of the task expert.
    names
        Names of its tensors.

    Raises
    ------
    PlanError
        A model without layers, or a partition that leaves one expert nothing.
    """

    def __init__(self, document: Document, stacks: Iterable[Stack], names: Iterable[str]) -> None:
        if document.layer_swap is None:
            raise PlanError("`layer_swap` needs a task expert and a language expert")
        self.swap: LayerSwap = document.layer_swap
        self._roles = document.roles
        self._stacks = {stack.prefix: stack for stack in stacks}
        if not self._stacks and self.swap.match is None:
            raise PlanError(
                f"{self.swap.task.ref}: has no numbered layers to swap; choose tensors with `layers: {{match: …}}`"
            )
        self._shares = {} if self.swap.match else {p: self._share(s) for p, s in self._stacks.items()}
        self._siblings = self._suffixes(names) if self._needs_roles else {}
        order = [source.ref for source in document.parts[0].merged]
        self.task_index = order.index(self.swap.task.ref)

    @property
    def _needs_roles(self) -> bool:
        return any(share.attention for share in self._shares.values())

    def _share(self, stack: Stack) -> Share:
        if self.swap.partition is not None:
            return partition_share(self.swap.partition, stack.count, stack.prefix)
        return counted_share(self.swap.first or 0, self.swap.last or 0, stack.count, stack.prefix)

    def giver(self, name: str) -> str:
        """Tell who gives a tensor: `task`, `language`, `average` or `base`.

        Raises
        ------
        PlanError
            A tensor outside the layers, or of a layer where its role decides, that fits no row of the table
            of roles.
        """
        if self.swap.match is not None and self.swap.match.search(name):
            return LANGUAGE
        place = locate(name)
        stack = self._stacks.get(place.prefix) if place else None
        if place is None or stack is None or place.number >= stack.count:
            return self._outside(name, appended=stack is not None)
        if self.swap.match is not None:
            return TASK
        share = self._shares[place.prefix]
        attention = False
        if share.attention:
            siblings = self._siblings[place.prefix, place.number]
            attention = role_in_layer(place.suffix, siblings, name, self._roles) == ATTENTION
        return LANGUAGE if share.gives(place.number, stack.count, attention=attention) else TASK

    def _outside(self, name: str, *, appended: bool) -> str:
        role = HEAD if appended else role_outside(name, self._roles)
        chosen = {EMBEDDINGS: self.swap.embeddings, HEAD: self.swap.head, FINAL_NORM: self.swap.final_norm}
        if role in chosen:
            return chosen[role]
        raise PlanError(
            f"tensor {name!r} is in no layer, and neither embeddings, head nor final norm; say which with "
            f"`roles:`, "
            "as in roles: {embeddings: ['part of its name']}"
        )

    @staticmethod
    def _suffixes(names: Iterable[str]) -> dict[tuple[str, int], list[str]]:
        siblings: dict[tuple[str, int], list[str]] = {}
        for name in names:
            place = locate(name)
            if place is not None:
                siblings.setdefault((place.prefix, place.number), []).append(place.suffix)
        return siblings


class Swap(Experts):
    """The jobs of a swap of checkpoints."""

    def __init__(self, document: Document, models: Models) -> None:
        task = document.layer_swap.task if document.layer_swap else document.parts[0].merged[0]
        checkpoint = models.by_ref[task.ref].checkpoint
        super().__init__(document, checkpoint.stacks, checkpoint.tensors)

    def job(self, target: Target, dtype: str) -> Job:
        """Make the job of one tensor."""
        lineup = target.lineup
        shape = target.tensors[0].shape
        first = 1 if lineup.base else 0
        if not is_float(target.tensors[0].dtype):
            inputs = [model.input(t) for model, t in zip(lineup.everyone, target.tensors, strict=True)]
            return Job(target.name, shape, dtype, COPY_EQUAL, {}, inputs)
        giver = self.giver(target.name)
        task, language = first + self.task_index, first + 1 - self.task_index
        if giver == AVERAGE:
            inputs = [self._input(target, first + i, index=i, weight=0.5) for i in range(2)]
            return Job(target.name, shape, dtype, "linear", {"normalize": True}, inputs)
        number = {TASK: task, LANGUAGE: language, BASE: 0}[giver]
        source = self._input(target, number)
        return Job(target.name, shape, dtype, COPY if source.dtype == dtype else CAST, {}, [source])

    @staticmethod
    def _input(target: Target, number: int, index: int | None = None, weight: float | None = None) -> Input:
        model = target.lineup.everyone[number]
        parameters = None if weight is None else {"weight": weight}
        return model.input(
            target.tensors[number], index=index, parameters=dict(parameters) if parameters else None
        )
