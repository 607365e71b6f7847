"""The documentation says what the program does: generated parts are up to date, vectors hold, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from oracles.random_mask import key_words, random_words

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SEED, MODEL, TENSOR = 42, 1, "model.layers.0.mlp.up_proj.weight"


def test_the_methods_page_is_generated_from_the_table() -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], check=True)


def test_the_vectors_of_the_random_masks_hold() -> None:
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    words = re.search(r"The key words are `(0x\w+)` and `(0x\w+)`", page)
    assert words is not None
    assert tuple(int(word, 16) for word in words.groups()) == key_words(SEED, MODEL, TENSOR)
    vectors = re.findall(r"^\| (\d+) \| `(0x\w+)` \|$", page, re.MULTILINE)
    assert len(vectors) >= 8
    for index, word in vectors:
        assert random_words(SEED, MODEL, TENSOR, 1, start=int(index))[0] == int(word, 16)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\":]+)\"", text)
    for target in (link or picture for link, picture in targets):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"
