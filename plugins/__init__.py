"""Built-in plugins. Each imports only the public API, and could be copied out unchanged."""
