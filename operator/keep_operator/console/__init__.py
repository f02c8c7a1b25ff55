"""The API: what objects cannot tell of workflows, to those who may read the objects; runs; the door for events."""
