"""Generation: networks that draw images like those of a data set, from noise."""
