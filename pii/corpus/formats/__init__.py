"""The forms of one row: its fields → a text and its unchecked spans."""
