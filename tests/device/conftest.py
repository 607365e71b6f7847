"""Tests of the device path need torch, all but those of what happens without it."""

try:
    import torch  # noqa: F401
except ModuleNotFoundError:
    collect_ignore_glob = ["models.py", "test_[!i]*.py"]
