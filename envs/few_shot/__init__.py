"""Few-shot families, one file each."""
