"""What several rules share: filling by order and score, places, fractions of time, rounds."""
