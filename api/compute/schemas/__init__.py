"""What bodies and queries may hold, by microversion: tables only, one module per resource, `types` for what they share."""
