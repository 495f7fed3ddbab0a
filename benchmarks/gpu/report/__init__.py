"""The page and the pictures of a run on a GPU."""
