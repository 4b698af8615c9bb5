"""The pages of `harness help`. Parts of them are made from the schema, the commands and the plugins when shown."""
