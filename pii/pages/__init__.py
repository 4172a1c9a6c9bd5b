"""Charts, and pages for a browser."""
