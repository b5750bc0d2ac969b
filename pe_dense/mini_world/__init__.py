"""A small generated world in which every task has labels that agree."""
