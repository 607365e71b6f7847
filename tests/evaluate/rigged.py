"""A model of the harness that knows the answers, and gives the ones that a test wants."""

from __future__ import annotations

import pytest

LM = pytest.importorskip("lm_eval.api.model").LM


class Rigged(LM):
    """Answers requests from their rows.

    Parameters
    ----------
    write
        From a row to the text that is generated for it.
    choose
        From a row to the number of the choice that is likeliest.
    """

    def __init__(self, write=None, choose=None):
        super().__init__()
        self._write, self._choose = write, choose
        self.prompts = []
        self.choices = []

    def loglikelihood(self, requests):
        for request in requests:
            if request.idx == 0:
                self.prompts.append(request.args[0])
                self.choices.append([])
            self.choices[-1].append(request.args[1])
        return [(-1.0 if each.idx == self._choose(each.doc) else -5.0, False) for each in requests]

    def generate_until(self, requests):
        self.prompts += [request.args[0] for request in requests]
        self.until = requests[0].args[1]["until"]
        self.length = requests[0].args[1]["max_gen_toks"]
        return [self._write(request.doc) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError
