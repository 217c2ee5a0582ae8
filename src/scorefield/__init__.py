"""scorefield."""
