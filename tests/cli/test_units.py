"""Sizes, the container's limit, names, tables, the partial folder's lock, the progress line."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from carrick.cli import progress as progress_module
from carrick.cli.output import fields, table
from carrick.cli.progress import ByteProgress
from carrick.errors import ConfigError, PlanError
from carrick.memory import SMALLEST_BUDGET, budget, container_limit, format_size, parse_size
from carrick.names import public_name, without_paths
from carrick.partial import PartialFolder

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("512MiB", 512 * MIB),
        ("1GB", 10**9),
        ("1 gib", 1 << 30),
        ("0.5kB", 500),
        ("7", 7),
        (7, 7),
        ("3TB", 3 * 10**12),
    ],
)
def test_sizes(text, nbytes):
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "lots", "1G", "-1GB", "1e9", "GB", "0", "0.1B", "1.5.0GB"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="memory"):
        parse_size(text, "memory")


def test_half_a_unit_gets_a_hint():
    with pytest.raises(ConfigError, match="did you mean 1GB or 1GiB"):
        parse_size("1G")


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (999_600, "1.00 MB"), (123456789, "123 MB")],
)
def test_sizes_for_people(nbytes, text):
    assert format_size(nbytes) == text


def cgroup(tmp_path, line, limits):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"{line}\n")
    for name, value in limits.items():
        path = tmp_path / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return container_limit(tmp_path / "proc", tmp_path / "cgroups")


@pytest.mark.parametrize(
    ("line", "limits", "limit"),
    [
        ("0::/", {"memory.max": 512 * MIB}, 512 * MIB),
        ("0::/a/b", {"memory.max": "max", "a/memory.max": 256 * MIB, "a/b/memory.max": 512 * MIB}, 256 * MIB),
        ("0::/not/visible/here", {"memory.max": 128 * MIB}, 128 * MIB),
        ("0::/a", {"a/memory.max": "max"}, None),
        ("3:cpu:/x", {"memory/x/memory.limit_in_bytes": 5}, None),
        ("4:memory:/x", {"memory/x/memory.limit_in_bytes": 64 * MIB}, 64 * MIB),
        ("4:hugetlb,memory:/x", {"memory/x/memory.limit_in_bytes": 9223372036854771712}, None),
    ],
)
def test_container_limit(tmp_path, line, limits, limit):
    assert cgroup(tmp_path, line, limits) == limit


def test_no_proc_no_limit(tmp_path):
    assert container_limit(tmp_path, tmp_path) is None


def test_budget_stays_below_the_container():
    assert budget("100MiB", 512 * MIB, 50 * MIB) == (100 * MIB, None)
    capped, note = budget("1GiB", 512 * MIB, 50 * MIB)
    assert capped == 462 * MIB
    assert note is not None
    assert "512 MiB" in note
    assert budget("1GiB", 60 * MIB, 50 * MIB)[0] == SMALLEST_BUDGET
    assert budget("8MiB", 60 * MIB, 59 * MIB) == (8 * MIB, None)


def test_names_have_no_paths():
    local = {"ref": "/data/models/base/", "revision": None, "folder": "/data/models/base"}
    assert public_name(local) == "base"
    assert public_name({**local, "ref": "/data/base.safetensors"}) == "base.safetensors"
    assert without_paths("a: '/data/models/base/'", [local]) == "a: 'base'"
    other = {"ref": "/data/models/base/v2", "revision": None, "folder": "/data/models/base/v2"}
    assert without_paths("[/data/models/base/v2]", [local, other]) == "[v2]"


def test_tables_are_narrow_and_aligned():
    lines = table(["name", "size"], [["x" * 200, "1"], ["y", "22"]], numbers=[1])
    assert {len(line) for line in lines} == {100}
    assert lines[1].endswith("   1")
    assert "…" in lines[1]


def test_sentences_in_tables_are_wrapped_and_names_are_cut():
    words = "every word of a sentence that is read stays there " * 3
    lines = table(["name", "what it is", "size"], [["x" * 90, words, "1"]], numbers=[2], sentence=1)
    assert max(map(len, lines)) <= 100
    assert lines[1].split()[0].count("…") == 1
    said = [word for line in lines[1:] for word in line.split()][1:]
    said.remove("1")
    assert said == words.split()


def test_fields_are_wrapped():
    lines = fields([("a", "word " * 40), ("name", "x")])
    assert max(map(len, lines)) <= 100
    assert [line[:6] for line in lines] == ["a     ", "      ", "      ", "name  "]


def test_partial_folder_is_for_one_run(tmp_path):
    out = tmp_path / "a" / "b" / "out"
    with PartialFolder(out) as partial:
        assert partial.path.is_dir()
        with pytest.raises(PlanError, match="another run"), PartialFolder(out):
            pass
        partial.prepare_commit(set())
        assert list(partial.path.iterdir()) == []
        with pytest.raises(PlanError, match="another run"), PartialFolder(out):
            pass
        assert list(partial.path.iterdir()) == []
        partial.path.rename(out)
        with PartialFolder(out):  # what stands there is no run's any more
            pass
    with PartialFolder(out.with_name("other")):
        pass


def test_partial_folder_goes_with_the_parents_it_made(tmp_path):
    with pytest.raises(PlanError, match="wrong"), PartialFolder(tmp_path / "a" / "b" / "out"):
        raise PlanError("wrong")
    assert list(tmp_path.iterdir()) == []


def test_progress_is_silent_for_short_work(capfd):
    with ByteProgress("merge") as bar:
        bar.update(5, 10, "x")
    assert capfd.readouterr() == ("", "")


def test_progress_without_a_terminal_is_a_line_at_the_end(capfd, monkeypatch):
    clock = iter([0.0, *[4.0] * 20])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with ByteProgress("merge") as bar:
        bar.update(0, 8_000_000, "x")
        bar.update(
            8_000_000, 8_000_000, "x", "measure"
        )  # the stage that was told last, which others went beside
    assert capfd.readouterr() == ("", "merge: 8.00 MB in 4.0 s, 2.00 MB/s\n")


def test_progress_bar_fits_the_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(progress_module.sys, "stderr", screen)
    monkeypatch.setattr(progress_module, "_PATIENCE", -1.0)
    monkeypatch.setenv("COLUMNS", "100")
    with ByteProgress("merge") as bar:
        bar.update(0, 10**10, "a")
        bar.update(4 * 10**9, 10**10, "model.layers.10." + "very_" * 30 + "long.weight")
        assert bar._bar is not None
        drawn = Console(width=100, file=io.StringIO())
        drawn.print(bar._bar.get_renderable())
        lines = drawn.file.getvalue().splitlines()
    assert len([line for line in lines if line.strip()]) == 1
    for text in ("40%", "4.00 GB of 10.0 GB", "left", "model.lay", "…"):
        assert text in lines[0]
