"""A new vocabulary for a model without training: which rows are copied, which are composed."""
