"""PostgreSQL's side of its sink: schema and migrations, rows, upkeep, forgetting."""
