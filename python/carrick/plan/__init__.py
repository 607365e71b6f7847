"""Planning: a document and the headers of its models become a list of jobs, one for each output tensor."""

from carrick.plan.build import build_plan, planned_checkpoint
from carrick.plan.estimate import Estimate, MethodShare, estimate_of
from carrick.plan.job import Input, Job, Plan, Shard
from carrick.plan.layout import DEFAULT_SHARD_SIZE, KEEP, ShardSize, index_of
from carrick.plan.output import check_output, check_output_of_plan, free_bytes
from carrick.plan.saved import load_plan, parse_plan

__all__ = [
    "DEFAULT_SHARD_SIZE",
    "KEEP",
    "Estimate",
    "Input",
    "Job",
    "MethodShare",
    "Plan",
    "Shard",
    "ShardSize",
    "build_plan",
    "check_output",
    "check_output_of_plan",
    "estimate_of",
    "free_bytes",
    "index_of",
    "load_plan",
    "parse_plan",
    "plan_text",
    "planned_checkpoint",
]


def __getattr__(name: str) -> object:
    if name == "plan_text":  # rich is slow to import, and a merge prints no plan
        from carrick.plan.text import plan_text  # noqa: PLC0415

        return plan_text
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
