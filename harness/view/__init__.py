"""The viewer: a local web application over run folders, which reads what is looked at and changes nothing but notes."""
