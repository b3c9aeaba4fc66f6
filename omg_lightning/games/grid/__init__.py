"""Games on a grid, and what they share: layouts, shortest paths, symmetries, scripted players, pictures."""
