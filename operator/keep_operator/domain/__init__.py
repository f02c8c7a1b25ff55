"""RULES: what follows from what is seen. Pure: no I/O, no clock, no randomness, no logging; time is an argument."""
