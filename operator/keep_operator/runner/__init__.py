"""Executes runs: loads what a run is bound to and nothing else, asks the program what is next, does it, writes it down."""
