"""Studies: many runs from one file, where they run, and their records."""
