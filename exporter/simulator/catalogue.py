"""What the simulated account can buy, with list prices as fal publishes them (2026-09), in nano-USD a unit."""

from typing import NamedTuple


class Model(NamedTuple):
    """A model endpoint: `size` is a usual request in nano-units of `unit`, `step` what sizes differ by."""

    endpoint_id: str
    unit: str
    price: int
    size: int
    step: int


class Machine(NamedTuple):
    """A machine of serverless or compute: `price` a (GPU-)second, `gpus` 0 for a CPU machine."""

    name: str
    gpu_class: str
    gpus: int
    price: int


_ONE = 10**9
_IMAGE = (_ONE, _ONE)
_CLIP = (5 * _ONE, 5 * _ONE)
_MEGAPIXEL = (1_048_576_000, 262_144_000)
_TEXT = (742_000_000, 113_000_000)
_COMPUTE = (2_300_000_000, 417_125_000)

MODELS = (
    Model("fal-ai/flux/dev", "image", 25_000_000, *_IMAGE),
    Model("fal-ai/flux/schnell", "megapixel", 3_000_000, *_MEGAPIXEL),
    Model("fal-ai/nano-banana", "image", 39_800_000, *_IMAGE),
    Model("fal-ai/bytedance/seedream/v4/text-to-image", "image", 30_000_000, *_IMAGE),
    Model("fal-ai/kling-video/v2.5-turbo/pro/image-to-video", "second", 70_000_000, *_CLIP),
    Model("fal-ai/veo3", "second", 400_000_000, *_CLIP),
    Model("fal-ai/wan-25-preview/text-to-video", "second", 50_000_000, *_CLIP),
    Model("fal-ai/elevenlabs/tts/turbo-v2.5", "1k_characters", 50_000_000, *_TEXT),
    Model("fal-ai/minimax/hailuo-02/standard/image-to-video", "second", 45_000_000, *_CLIP),
    Model("fal-ai/flux-pro/kontext", "image", 40_000_000, *_IMAGE),
    Model("fal-ai/flux-lora", "megapixel", 35_000_000, *_MEGAPIXEL),
    Model("fal-ai/recraft/v3/text-to-image", "image", 40_000_000, *_IMAGE),
    Model("fal-ai/ideogram/v3", "image", 60_000_000, *_IMAGE),
    Model("fal-ai/qwen-image", "megapixel", 20_000_000, *_MEGAPIXEL),
    Model("fal-ai/imagen4/preview", "image", 50_000_000, *_IMAGE),
    Model("fal-ai/stable-diffusion-v35-large", "megapixel", 65_000_000, *_MEGAPIXEL),
    Model("fal-ai/minimax/video-01", "video", 500_000_000, *_IMAGE),
    Model("fal-ai/hunyuan-video", "video", 400_000_000, *_IMAGE),
    Model("fal-ai/ltx-video", "video", 20_000_000, *_IMAGE),
    Model("fal-ai/mmaudio-v2", "second", 1_000_000, *_CLIP),
    Model("fal-ai/minimax/speech-02-hd", "1k_characters", 100_000_000, *_TEXT),
    Model("fal-ai/kokoro/american-english", "1k_characters", 20_000_000, *_TEXT),
    Model("fal-ai/whisper", "compute_second", 111_000, *_COMPUTE),
    Model("fal-ai/clarity-upscaler", "megapixel", 30_000_000, *_MEGAPIXEL),
    Model("fal-ai/topaz/upscale/image", "image", 80_000_000, *_IMAGE),
    Model("fal-ai/birefnet/v2", "compute_second", 575_000, *_COMPUTE),
    Model("fal-ai/bria/background/remove", "image", 18_000_000, *_IMAGE),
    Model("fal-ai/trellis", "image", 20_000_000, *_IMAGE),
    Model("fal-ai/pixverse/v5/image-to-video", "second", 60_000_000, *_CLIP),
    Model("fal-ai/sync-lipsync/v2", "second", 50_000_000, *_CLIP),
)

SERVERLESS_MACHINES = (
    Machine("GPU-H100", "H100", 1, 1_250_000),
    Machine("GPU-A100", "A100", 1, 277_778),
    Machine("GPU-H200", "H200", 1, 1_250_000),
    Machine("GPU-B200", "B200", 1, 1_736_111),
    Machine("GPU-A6000", "A6000", 1, 166_667),
    Machine("GPU-B300", "B300", 1, 2_361_111),
    Machine("L", "", 0, 44_445),
    Machine("M", "", 0, 22_223),
    Machine("S", "", 0, 11_112),
    Machine("XS", "", 0, 5_556),
)

COMPUTE_MACHINES = (
    Machine("gpu_8x_h100_sxm5", "H100", 8, 10_000_000),
    Machine("gpu_1x_h100_sxm5", "H100", 1, 1_250_000),
    Machine("gpu_8x_b200", "B200", 8, 13_888_888),
)

APPS = (
    "avatar-studio",
    "raw-to-jpg",
    "video-captions",
    "product-shots",
    "voice-clone",
    "room-designer",
    "lora-trainer",
    "face-restore",
    "story-board",
    "doc-vision",
    "music-bed",
    "batch-upscale",
)

TEAMS = ("acme", "acme-research", "acme-studio", "acme-mobile", "acme-labs")
"""Team usernames; the first is the organization's root."""

LOGINS = ("alice", "bob", "carol", "dave", "erin")
DISCOUNTS = (None, None, 10, None, 15, None, 5, 20)
"""Percent off the list price that lines are given in turn."""
