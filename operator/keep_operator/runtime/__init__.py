"""MECHANICS: cache, work queue, workers, metrics and health; they know no kind."""
