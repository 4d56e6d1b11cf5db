"""Any OpenAI-compatible server as a device."""
