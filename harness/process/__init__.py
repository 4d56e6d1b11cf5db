"""What long work needs of its process: progress, signals, a watchdog."""
