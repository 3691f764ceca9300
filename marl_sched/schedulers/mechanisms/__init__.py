"""What several rules share: serving in an order, filling by score, places, fractions, rounds."""
