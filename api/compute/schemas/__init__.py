"""What bodies and queries may hold, by microversion: tables, one module per resource, `types` for what they share."""
