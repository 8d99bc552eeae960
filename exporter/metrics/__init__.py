"""Numbers to exposition: the catalogue of families, the snapshot, and its encoding, made once and served as bytes."""
