import pytest
from fal.conftest import Bench

from exporter.errors import ConfigurationError
from exporter.fal.sources import SOURCES, usage_source


async def test_every_source_is_made_by_its_name(bench: Bench) -> None:
    assert list(SOURCES) == ["models", "serverless", "compute", "organization", "reporting", "focus"]
    client = bench.client()
    assert [usage_source(name, client).name for name in SOURCES] == list(SOURCES)


async def test_an_unknown_source_is_a_wrong_configuration(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="no source 'model'; the sources are models, serverless"):
        usage_source("model", bench.client())
