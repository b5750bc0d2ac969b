"""Generated scenes and shared data transforms."""
