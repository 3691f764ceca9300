"""What may be given to whom: the one place for limits by GPU type, node and tenant."""
