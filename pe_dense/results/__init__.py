"""Results: the record of one score, its store, its provenance and the leaderboard; no torch."""
