"""What a merge did, for programs and for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from carrick.adapters.merging.plan import AdapterPlan
    from carrick.plan import Plan


@dataclass
class MergeReport:
    """What a merge did.

    Attributes
    ----------
    out
        The output folder.
    tensors
        Number of tensors in the output.
    bytes_read, bytes_written
        What the engine moved in this run, intermediates among it.
    seconds
        Wall-clock time of everything, planning among it.
    checksums
        XXH3-128 of each output tensor's bytes, in hexadecimal.
    nan, inf, overflow
        Number of NaN, of infinities, and of finite values that overflowed the output's type, for each output
        tensor that has any.
    resumed
        Tensors that an interrupted run had finished already.
    notes
        What a user should know: ignored keys, copied tensors, a capped memory budget, NaN in the output.
    threads, simd, read, write
        How the engine worked.
    dry_run
        True when nothing was written: bytes are then those that would be.
    plans
        The plans, one for each document of the configuration; the output's is the last.
    """

    out: Path
    tensors: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    checksums: dict[str, str] = field(default_factory=dict, repr=False)
    nan: dict[str, int] = field(default_factory=dict)
    inf: dict[str, int] = field(default_factory=dict)
    overflow: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    notes: list[str] = field(default_factory=list)
    threads: int = 0
    simd: str = ""
    read: str = ""
    write: str = ""
    dry_run: bool = False
    plans: Sequence[Plan | AdapterPlan] = field(default_factory=list, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the plans."""
        content = {name: value for name, value in vars(self).items() if name != "plans"}
        return {**content, "out": str(self.out)}

    def take(self, report: Mapping[str, Any]) -> None:
        """Add what the engine says about one more document; the last one is the output."""
        self.tensors = len(report["tensors"])
        self.checksums = {tensor["name"]: tensor["checksum"] for tensor in report["tensors"]}
        self.nan, self.inf, self.overflow = report["nan"], report["inf"], report["overflow"]
        self.bytes_read += report["bytes_read"]
        self.bytes_written += report["bytes_written"]
        self.resumed += report["resumed_tensors"]
        self.threads, self.simd = report["threads"], report["simd"]
        self.read, self.write = report["read"], report["write"]
        if report.get("stale"):
            self.notes.append(f"started anew: {report['stale']}")
        self.notes += _findings(report)


def _findings(report: Mapping[str, Any]) -> list[str]:
    """Sentences about values that are no ordinary numbers."""
    kinds = {
        "nan": "NaN",
        "inf": "infinite values",
        "overflow": "values too large for the output's type",
    }
    found = []
    for key, what in kinds.items():
        counts: dict[str, int] = report[key]
        if counts:
            worst = max(counts, key=lambda name: counts[name])
            total = f"{sum(counts.values()):,} {what} in {len(counts):,} of the output's tensors"
            found.append(f"{total}, most of them in {worst!r}")
    return found
