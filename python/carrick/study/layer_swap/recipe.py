"""The recipe of the layer-swapping study, typed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carrick.config.typed import Recipe

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Partition = Literal["A", "B", "C", "Z"]
Kind = Literal["full", "lora"]


class Toy(Recipe):
    """Shape of the study's own Llama, and of its data."""

    width: Positive = 96
    layers: Positive = 12
    heads: Positive = 3
    vocabulary: Positive = 4096
    length: Positive = 256
    row_tokens: Positive = 192
    test_rows: Positive = 250


class Training(Recipe):
    """How one training runs."""

    steps: Positive
    batch_size: Positive
    learning_rate: Rate
    schedule: Literal["constant_with_warmup", "cosine", "linear", "constant"] = "constant_with_warmup"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    clip_norm: Rate = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class Lora(Recipe):
    """Rank-stabilised LoRA on attention and MLPs."""

    rank: Positive = 8
    alpha: Positive = 8
    learning_rate: Rate = 3e-3


class Simultaneous(Recipe):
    """Simultaneous partition SFT: partitions at one step a switch, and the partition that more steps are tried on."""

    partitions: list[Partition]
    steps_per_switch: list[Positive]
    ablated: Partition = "C"
    ablated_kinds: list[Kind]


class LayerSwap(Recipe):
    """The study: one base, experts trained by SFT in full and as LoRA, everything that is made of them.

    Simultaneous training of the ablated partition is also tried at the learning rate times each of `rate_factors`.
    """

    toy: Toy = Toy()
    pretraining: Training
    sft: Training
    lora: Lora = Lora()
    kinds: list[Kind]
    simultaneous: Simultaneous
    rate_factors: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=list)
    continual_pretraining: bool = True
    ties_density: Annotated[float, Field(gt=0, le=1)] = 0.5
    seeds: list[int]
    draws: Positive = 1000

    @model_validator(mode="after")
    def _turns(self) -> LayerSwap:
        for k in self.simultaneous.steps_per_switch:
            if self.sft.steps % k:
                raise ValueError(
                    f"`sft.steps` is {self.sft.steps}: each side of a simultaneous training takes as many, in "
                    f"turns of `steps_per_switch` {k}; make it a multiple"
                )
        return self
