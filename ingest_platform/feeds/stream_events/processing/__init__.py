"""What happens to events between their load and their destinations: parse, enrich, mask, route, sample."""
