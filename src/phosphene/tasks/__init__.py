"""The experiments: each a short module that composes the core."""
