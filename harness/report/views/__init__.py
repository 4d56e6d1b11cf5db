"""What a report shows, as plain data for the templates."""
