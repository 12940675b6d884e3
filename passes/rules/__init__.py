"""Rewrite rules, by subject: constants, scalar algebra, views, reductions, contractions and pooling."""
