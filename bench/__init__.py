"""Commands whose tables and pictures others can repeat."""
