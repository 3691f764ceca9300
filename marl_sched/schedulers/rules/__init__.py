"""Classic schedulers, one file each."""
