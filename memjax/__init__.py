"""memjax: train medical image generators in JAX, and measure whether they hand back their training patients."""

__version__ = "0.1.0"
