"""Labels of one set as another calls them: the user's own maps, and those of sets that people use."""
