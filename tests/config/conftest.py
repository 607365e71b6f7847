"""Fixtures of the configuration's tests."""

import pytest

from carrick.config import loads
from carrick.errors import CarrickError, ConfigError


@pytest.fixture
def refused():
    """Read a text that has to be refused, and give the error."""

    def read(text):
        with pytest.raises(ConfigError) as caught:
            loads(text, "config.yml")
        assert isinstance(caught.value, CarrickError)
        assert str(caught.value) == f"config.yml:{caught.value.line}: {caught.value.message}"
        return caught.value

    return read
