"""The version, on the lowest floor: devices tell it to servers."""

__version__ = "0.1.0"
