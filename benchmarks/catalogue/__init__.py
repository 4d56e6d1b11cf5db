"""The catalogue: does the verdict tell correct variations from broken models?

``python -m benchmarks.catalogue`` runs correct variations and injected faults
of the embedded model, judges each against the committed baseline, and writes
``docs/catalogue.md``.
"""
