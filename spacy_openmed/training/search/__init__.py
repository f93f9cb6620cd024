"""Search for the settings of fine-tuning, one corpus and backbone at a time, on dev."""
