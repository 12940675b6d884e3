"""The networks of the training and inference tables: graphc's Symbols, their torch twins, and common weights."""
