"""What ``torch.compile`` asks of a device."""

from __future__ import annotations

from typing import Any

from torch_npu import npu


def register() -> None:
    """Tell ``torch.compile`` of the device."""
    # Late: it loads much of torch.compile.
    from torch._dynamo.device_interface import DeviceInterface, register_interface_for_device

    class Worker:
        set_device = staticmethod(npu.set_device)
        current_device = staticmethod(npu.current_device)
        get_device_properties = staticmethod(npu.get_device_properties)

    members: dict[str, Any] = {
        "Event": npu.Event,
        "Stream": npu.Stream,
        "device": npu.device,
        "Worker": Worker,
        "get_compute_capability": staticmethod(lambda device=None: 0),
        "exchange_device": staticmethod(npu._exchange_device),
        "maybe_exchange_device": staticmethod(npu._maybe_exchange_device),
        "is_bf16_supported": staticmethod(lambda including_emulation=False: True),
    }
    for name in (
        "current_device",
        "set_device",
        "device_count",
        "is_available",
        "synchronize",
        "stream",
        "current_stream",
        "set_stream",
        "get_device_properties",
    ):
        members[name] = staticmethod(getattr(npu, name))
    interface = type("NpuInterface", (DeviceInterface,), members)
    register_interface_for_device("npu", interface)
    register_interface_for_device("npu:0", interface)
