"""What my_plugin adds to harness, in a few words."""
