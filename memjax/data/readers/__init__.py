"""The formats of the field: each reader finds, describes and reads images; see `base` for the contract."""
