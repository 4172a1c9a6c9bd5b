"""Hidden states → tags: the modules that are trained, their loss, decoding and calibration."""
