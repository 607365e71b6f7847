"""Merge a small Llama and three fine-tunes by TIES in 128 MiB, check the result, and compare with plain NumPy."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benches.llama import Shape, write_config, write_family  # noqa: E402
from benches.measure import Usage, run  # noqa: E402
from oracle import ties, units_away  # noqa: E402
from plain_numpy import open_model  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

FOLDER = ROOT / ".demo"
PROGRAMS = Path(sys.executable).parent
SHAPE = Shape(layers=8, hidden=1024, intermediate=2816, heads=16, kv_heads=4, head_dim=64, vocabulary=32000)
FINE_TUNES = 3
WEIGHT, DENSITY, MEMORY = 0.5, 0.5, "128MiB"
CHECKED = (
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.3.mlp.down_proj.weight",
    "model.layers.7.input_layernorm.weight",
    "model.layers.7.self_attn.q_proj.weight",
    "model.norm.weight",
)
MIB = 1 << 20
CONFIG = """\
merge_method: ties
base_model: {base}
models:
{models}
parameters:
  density: {density}
dtype: bfloat16
"""
console = Console(width=min(100, Console().width), highlight=False)


def heading(number: int, text: str) -> None:
    """Say what comes next."""
    console.print(f"\n[bold]{number}  {text}[/]")


def make_models() -> list[Path]:
    """Write a base and its fine-tunes below .demo/."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    models = write_family(FOLDER, SHAPE.tensors(), "BF16", FINE_TUNES)
    write_config(models, SHAPE, "BF16")
    size = sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors"))
    console.print(
        f"   {len(models)} models of {SHAPE.parameters / 1e6:.0f} million parameters, "
        f"{size / 1e6:.0f} MB of bf16 in .demo/"
    )
    return models


def write_merge_config(models: list[Path]) -> Path:
    """Write and show the YAML, in mergekit's own form."""
    listed = "\n".join(
        f"  - model: {model.relative_to(ROOT)}\n    parameters: {{weight: {WEIGHT}}}" for model in models[1:]
    )
    text = CONFIG.format(base=models[0].relative_to(ROOT), models=listed, density=DENSITY)
    path = FOLDER / "ties.yml"
    path.write_text(text)
    console.print("".join(f"   [dim]{line}[/]\n" for line in text.splitlines()), end="")
    return path


def merge(config: Path, out: Path) -> Usage:
    """Run Carrick's command with its progress bar on the terminal."""
    command = [
        "carrick",
        "merge",
        str(config.relative_to(ROOT)),
        str(out.relative_to(ROOT)),
        "--memory",
        MEMORY,
    ]
    console.print(f"   $ [bold]{' '.join(command)}[/]")
    # A merge this small is over before the bar would appear by itself.
    shown = {"CARRICK_PROGRESS_AFTER": "0"}
    return run([str(PROGRAMS / command[0]), *command[1:], "--json"], environment=shown, stderr_shown=True)


def check(models: list[Path], out: Path) -> tuple[int, float]:
    """Compare tensors of every kind with the oracle; return the entries compared and the worst distance."""
    base, *tuned = (open_model(folder) for folder in models)
    result = open_model(out)
    assert set(result) == set(base), "a tensor is missing"
    entries, worst = 0, 0.0
    for name in CHECKED:
        want = ties(base[name], [model[name] for model in tuned], WEIGHT, DENSITY)
        worst = max(worst, units_away(result[name], want, base[name]))
        entries += want.size
    return entries, worst


def compare(carrick: Usage, plain: Usage, moved: int) -> Table:
    """Set both runs side by side."""
    table = Table(box=None, pad_edge=False, padding=(0, 4, 0, 0), header_style="dim")
    for column, side in (("", "left"), ("Carrick", "right"), ("plain NumPy", "right"), ("", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    engine = json.loads(carrick.output)["seconds"]
    rows = [
        ("time, with the interpreter's start", carrick.seconds, plain.seconds, "{:.2f} s"),
        (
            "throughput, bytes in and out",
            moved / carrick.seconds / 1e9,
            moved / plain.seconds / 1e9,
            "{:.2f} GB/s",
        ),
        (
            "memory allocated at the peak",
            carrick.peak_anonymous / MIB,
            plain.peak_anonymous / MIB,
            "{:.0f} MiB",
        ),
    ]
    for name, mine, other, form in rows:
        ratio = max(mine, other) / min(mine, other)
        table.add_row(name, f"[bold]{form.format(mine)}[/]", form.format(other), f"[dim]{ratio:.0f}x[/]")
    table.add_row("time of the merge itself", f"[bold]{engine:.2f} s[/]", "", "")
    return table


def main() -> None:
    """Run the demo from models to comparison."""
    heading(1, "A small Llama-shaped base and three fine-tunes")
    models = make_models()
    config = write_merge_config(models)

    heading(2, f"TIES with density {DENSITY}, within {MEMORY}")
    out = FOLDER / "merged"
    carrick = merge(config, out)
    moved = sum(path.stat().st_size for folder in (*models, out) for path in folder.glob("*.safetensors"))

    heading(3, "The same merge in plain NumPy")
    script = "demo/plain_numpy.py"
    plain_out = FOLDER / "merged-numpy"
    console.print(f"   $ [bold]python {script} .demo/base .demo/tuned-* .demo/merged-numpy[/]")
    plain = run([sys.executable, str(ROOT / script), *map(str, models), str(plain_out)])

    heading(4, "Is it right?")
    entries, worst = check(models, out)
    verdict = "[green]right[/]" if worst <= 0.5 else "[red]wrong[/]"
    console.print(
        f"   {entries / 1e6:.0f} million entries against float64 NumPy with exact decisions: {verdict},\n"
        f"   at most {worst:.3f} units of bf16 away (rounding alone may take 0.5)"
    )
    if worst > 0.5:
        sys.exit("the merge differs from the oracle")

    heading(5, "Side by side")
    console.print()
    console.print(compare(carrick, plain, moved))
    console.print(
        "\n[bold]Next[/]  the plan of this merge, then a merge of your own:\n\n"
        "   $ .venv/bin/carrick plan .demo/ties.yml\n"
        "   $ .venv/bin/carrick merge your-mergekit-config.yml merged/\n"
    )


if __name__ == "__main__":
    main()
