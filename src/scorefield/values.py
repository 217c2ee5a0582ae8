"""Arguments as people give them: numbers of NumPy and PyTorch, iterators, mappings, paths."""
