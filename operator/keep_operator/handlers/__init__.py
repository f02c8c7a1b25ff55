"""KOPF: the only room that knows it; it lists and watches our kinds and hands what it sees to the world."""
