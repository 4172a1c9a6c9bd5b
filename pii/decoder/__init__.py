"""The frozen backbone → hidden states."""
