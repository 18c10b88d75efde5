"""Recipes: strict TOML read into dataclasses, with the rules between their fields."""
