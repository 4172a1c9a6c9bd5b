"""The kinds of files and folders that rows come in: each → lines of JSON, one a row."""
