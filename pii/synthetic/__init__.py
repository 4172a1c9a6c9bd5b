"""Made-up rows: values of the 56 types, and sentences with places for them."""
