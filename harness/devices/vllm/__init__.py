"""vLLM devices: ``npu``, ``vllm-cpu``, ``vllm-gpu``."""
