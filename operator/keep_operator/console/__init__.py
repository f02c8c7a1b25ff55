"""The read API: what objects cannot tell of workflows, to those who may read the objects. It writes nothing."""
