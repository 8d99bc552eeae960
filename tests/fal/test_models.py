import pytest

from exporter.fal.platform_usage import describe_model


@pytest.mark.parametrize(
    ("unit", "gpu_class", "seconds"), [("image", "", 0), ("GPU-H100", "H100", 1), ("compute_second", "", 0)]
)
def test_a_models_unit_gives_its_gpu(unit: str, gpu_class: str, seconds: int) -> None:
    item = describe_model("prod", ["fal-ai/flux/dev", unit])
    assert item.dimensions == ("prod", "", "model_apis", "fal-ai/flux/dev", "", "", gpu_class, unit, "", "")
    assert item.gpu.seconds == seconds
