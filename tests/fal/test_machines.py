import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import GpuMachine
from exporter.fal.rows import GpuTime, billing_line, gpu_time_of_unit


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("image", GpuTime()),
        ("second", GpuTime()),
        ("video", GpuTime()),
        ("megapixel", GpuTime()),
        ("1k_characters", GpuTime()),
        ("compute_second", GpuTime()),
        ("GPU-H100", GpuTime("H100", 1)),
        ("NVIDIA H200", GpuTime("H200", 1)),
        ("gpu_8x_h100_sxm5", GpuTime("H100", 8)),
        ("GPU-H100 second", GpuTime("H100", 1)),
        ("H100 hour", GpuTime("H100", 3600)),
        ("a100_minutes", GpuTime("A100", 60)),
        ("gpu_second", GpuTime("GPU", 1)),
        ("L", GpuTime()),
    ],
)
def test_a_unit_that_names_a_gpu_is_gpu_time(unit: str, expected: GpuTime) -> None:
    assert gpu_time_of_unit(unit) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type: gpu_8x_h100_sxm5 (my-app, prod)", (GpuMachine("H100", 8), "my-app", "prod")),
        ("type: GPU-H100 (my-app)", (GpuMachine("H100", 1), "my-app", "")),
        ("Type:L", (GpuMachine("", 0), "", "")),
        ("type: gpu_1x_b200 (app (two), prod)", (GpuMachine("B200", 1), "app (two)", "prod")),
        ("fal-ai/flux/dev", None),
        ("", None),
    ],
)
def test_a_machines_line_is_read(text: str, expected: tuple[GpuMachine, str, str] | None) -> None:
    assert billing_line(text) == expected


@given(st.text())
def test_any_text_is_a_line_or_none_and_a_unit(text: str) -> None:
    billing_line(text)
    gpu_class, seconds = gpu_time_of_unit(text)
    assert bool(gpu_class) == bool(seconds)
