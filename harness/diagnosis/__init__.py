"""Which change of the oracle's computation explains a candidate's error."""
