"""What an encoder sees before anything is trained on it: colours, similarity, attention."""
