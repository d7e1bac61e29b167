"""From a description to a result: spec → population → run → store → statistics."""
