"""Games on a grid, and their common tools: layouts, shortest paths, symmetries, scripted players, pictures."""
