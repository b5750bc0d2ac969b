"""Folders that a person has: what is there, missing or wrong; splits and maps that are made."""
