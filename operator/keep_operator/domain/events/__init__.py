"""Events that are posted: how alerts and incidents are read, and which workflows they start."""
