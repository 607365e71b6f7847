"""The harness's view of a loaded model, without its bars where nobody watches them."""

from __future__ import annotations

import sys
from typing import Any

from lm_eval.models.huggingface import HFLM


class LoadedModel(HFLM):
    """A causal language model that is loaded already, a PeftModel with several active adapters included."""

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Answer with log-likelihoods; the bar is drawn on a terminal alone."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm or not sys.stderr.isatty())

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Answer with texts; the bar is drawn on a terminal alone."""
        return super().generate_until(requests, disable_tqdm=disable_tqdm or not sys.stderr.isatty())
