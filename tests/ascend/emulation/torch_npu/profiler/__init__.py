"""The profiler's name; nothing is profiled."""

from torch_npu.profiler import dynamic_profile
