"""Data: the caption table, its readers, pictures as pixels, and drawn scenes."""
