"""Studies: many runs from one file, engines that execute them, and their records."""
