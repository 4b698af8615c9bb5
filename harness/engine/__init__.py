"""How it is run: plan, batches, memory, devices."""
