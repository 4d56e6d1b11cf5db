"""Files: strict JSON, locks, packed arrays, outputs."""
