"""Baselines: their arms, how they are made, stored and approved."""
