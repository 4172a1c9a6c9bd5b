"""What rules promise beside a model: values with a checksum, values by their form, and lists of a user's own."""
