"""Images on disk: readers, preparation, the image store, phantoms. Imports no JAX and touches no device."""
