"""``python -m data.convert``: labels and masks from any format into any other, with a data YAML beside them."""
