"""Several models' distributions made into one: pure tensor maths, no models and no tokenizers."""
