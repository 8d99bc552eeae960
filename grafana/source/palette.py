"""Colours by meaning; all are Grafana's own names, which suit the dark and the light theme."""

GOOD, WARNING, BAD, NEUTRAL = "green", "orange", "red", "text"

GOOD_TINT, NO_DATA_TINT = "rgba(86, 166, 75, 0.16)", "rgba(140, 150, 165, 0.16)"
"""Of a whole tile that needs no attention."""

NOTED_TINT = "rgba(87, 148, 242, 0.2)"
"""Of what is worth knowing, and needs nobody."""

SPEND = "blue"
FORECAST = "purple"
LIMIT = "red"
PAST = "#8E9AAB"
PRODUCTS = {"model_apis": "blue", "serverless": "purple", "compute": "orange"}
"""fal's product lines, the same on every dashboard."""

PRODUCT_NAMES = {"model_apis": "Model APIs", "serverless": "Serverless", "compute": "Compute machines"}
"""Names that people use."""

NAME_TEXTS = PRODUCT_NAMES | {
    "without gpu_class": "without GPU class",
    "without api_key": "without key",
    "api_key": "key",
}
"""Names that people write in another way than labels do."""

GPU_CLASSES = {
    "H100": "green",
    "H200": "dark-green",
    "B200": "blue",
    "B300": "dark-blue",
    "A100": "purple",
    "A6000": "yellow",
}
"""The GPU classes of fal's price list; others take the next colour of the palette."""

STATES = {"running": "green", "idle": "orange", "pending": "blue", "draining": "purple", "unknown": "#8E9AAB"}
"""States of the runners of apps."""

NAMES = (
    PRODUCTS
    | GPU_CLASSES
    | {"all others": "#8E9AAB"}
    | {f"without {label}": "#5F6B7C" for label in ("team", "product", "model", "app", "gpu_class")}
)
"""The colours of groups by their names, greys where they have none of their own."""
