"""Studies: many runs from one file, where they run, and what each of them leaves."""
