"""FOCUS reports of fal: what may be asked of them, their download, and the usage and bills read from them."""
