"""CANN's Python binding: the one name that vLLM-Ascend imports."""

from acl import rt
