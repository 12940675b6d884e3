"""Rewrite rules, by subject: constants, scalar algebra, views, reductions and contractions."""
