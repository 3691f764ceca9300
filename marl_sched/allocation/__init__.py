"""What may be allocated: bounds of resources, nodes, GPU types and tenants, in one place."""
