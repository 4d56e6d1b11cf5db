"""Transformers devices: ``hf-cpu``, ``hf-gpu``, ``hf-npu``."""
