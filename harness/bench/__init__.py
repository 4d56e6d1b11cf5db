"""Throughput and latency: measuring, comparing, judging."""
