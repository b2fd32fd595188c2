"""The page: every experiment with its figures, in one folder that opens from disk."""
