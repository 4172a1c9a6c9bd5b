"""Raw rows → tokens, aligned labels and offsets: the prepared format, its checks and its windows."""
