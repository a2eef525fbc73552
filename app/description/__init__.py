"""Description: networks that say in a sentence what an image shows."""
