"""What may be wrong with rows that can be read: borders inside words, other units, texts that contradict each other."""
