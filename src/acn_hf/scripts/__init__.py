"""What the example scripts share: arguments, models, training runs, and tables of many runs."""
