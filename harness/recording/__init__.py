"""The recording: its format, how it is made, resumed and repeated."""
