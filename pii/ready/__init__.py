"""The ready head: a run folder, its card, and how it is made again."""
