"""Row statistics, margins, noise and intervals: pure functions of arrays."""
